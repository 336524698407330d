// The AWS SDK for JavaScript: `node with_node.cjs TASK`, what it needs as JSON on stdin.
"use strict";

const fs = require("node:fs");
const textract = require("@aws-sdk/client-textract");

const DEADLINE_MS = 90_000;
const client = new textract.TextractClient({});
const send = (command, input) => client.send(new textract[command](input));
const location = (given) => ({ S3Object: { Bucket: given.bucket, Name: given.key } });
const texts = (response, type) => response.Blocks.filter((block) => block.BlockType === type).map((block) => block.Text);

async function read(given) {
  const inline = await send("DetectDocumentTextCommand", { Document: { Bytes: fs.readFileSync(given.file) } });
  const stored = await send("DetectDocumentTextCommand", { Document: location(given) });
  const word = inline.Blocks.find((block) => block.BlockType === "WORD");
  return {
    alike: JSON.stringify(inline.Blocks) === JSON.stringify(stored.Blocks),
    lines: texts(inline, "LINE"),
    pages: inline.DocumentMetadata.Pages,
    numbers: [word.Confidence, word.Geometry.BoundingBox.Width, word.Geometry.Polygon[0].X].every(Number.isFinite),
    status: inline.$metadata.httpStatusCode,
    requests: [inline, stored].map((response) => response.$metadata.requestId),
  };
}

async function analyse(given) {
  const response = await send("AnalyzeDocumentCommand", {
    Document: { Bytes: fs.readFileSync(given.file) },
    FeatureTypes: ["TABLES"],
  });
  const blocks = new Map(response.Blocks.map((block) => [block.Id, block]));
  const children = (block, type) =>
    (block.Relationships ?? []).filter((one) => one.Type === type).flatMap((one) => one.Ids.map((id) => blocks.get(id)));
  return {
    model: response.AnalyzeDocumentModelVersion,
    cells: response.Blocks.filter((block) => block.BlockType === "TABLE").map((table) =>
      children(table, "CHILD")
        .filter((cell) => cell.BlockType === "CELL")
        .map((cell) => [
          cell.RowIndex,
          cell.ColumnIndex,
          children(cell, "CHILD").map((word) => word.Text).join(" "),
        ]),
    ),
  };
}

async function job(given) {
  const { JobId } = await send("StartDocumentTextDetectionCommand", { DocumentLocation: location(given) });
  const deadline = Date.now() + DEADLINE_MS;
  const ask = (more) => send("GetDocumentTextDetectionCommand", { JobId, MaxResults: given.results, ...more });
  let response = await ask({});
  while (response.JobStatus === "IN_PROGRESS" && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    response = await ask({});
  }
  const { JobStatus: status, DocumentMetadata: { Pages: pages } } = response;
  const responses = [response];
  while (response.NextToken) {
    response = await ask({ NextToken: response.NextToken });
    responses.push(response);
  }
  return {
    status,
    pages,
    sizes: responses.map((one) => one.Blocks.length),
    lines: responses.flatMap((one) => texts(one, "LINE")),
  };
}

async function errors(given) {
  const missing = { S3Object: { Bucket: given.bucket, Name: "missing" } };
  const attempts = {
    "no such object": ["DetectDocumentTextCommand", { Document: missing }],
    "no such job": ["GetDocumentTextDetectionCommand", { JobId: "0".repeat(64) }],
    "no document": ["DetectDocumentTextCommand", { Document: { Bytes: Buffer.from("lemon") } }],
    "neither": ["DetectDocumentTextCommand", { Document: {} }],
  };
  const seen = {};
  for (const [name, [command, input]] of Object.entries(attempts)) {
    try {
      await send(command, input);
    } catch (error) {
      seen[name] = {
        name: error.name,
        message: error.message,
        // A class of the SDK's own: what callers tell errors apart by.
        class: textract[error.name] !== undefined && error instanceof textract[error.name],
        fault: error.$fault,
        status: error.$metadata?.httpStatusCode,
        request: Boolean(error.$metadata?.requestId),
      };
    }
  }
  return seen;
}

const tasks = { read, analyse, job, errors };
tasks[process.argv[2]](JSON.parse(fs.readFileSync(0, "utf8"))).then((result) => console.log(JSON.stringify(result)));
