#!/bin/sh
# Does what the official image does with POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, and refuses what it does not know.
set -eu

if [ "$1" != postgres ]; then exec "$@"; fi

for name in $(env | sed -n 's/^\(POSTGRES_[A-Z0-9_]*\)=.*/\1/p'); do
  case $name in
    POSTGRES_USER | POSTGRES_PASSWORD | POSTGRES_DB) ;;
    *) echo "this stand-in for the official image does not know $name" >&2 && exit 64 ;;
  esac
done
if [ -d /docker-entrypoint-initdb.d ]; then
  echo "this stand-in for the official image runs nothing in /docker-entrypoint-initdb.d" >&2
  exit 64
fi

if [ "$(id -u)" = 0 ]; then
  install --directory --owner=postgres --group=postgres --mode=0700 "$PGDATA"
  chown postgres:postgres /var/lib/postgresql "$(dirname "$PGDATA")"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  if [ -z "${POSTGRES_PASSWORD:-}" ]; then
    echo "POSTGRES_PASSWORD is not set" >&2
    exit 64
  fi
  secret=$(mktemp)
  printf '%s\n' "$POSTGRES_PASSWORD" >"$secret"
  initdb --pgdata="$PGDATA" --username="$user" --pwfile="$secret" --auth=trust --encoding=UTF8 \
    --locale-provider=builtin --locale=C.UTF-8 --no-sync >/dev/null
  rm "$secret"
  # Clients from outside of the container are asked for the password.
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
  echo "unix_socket_directories = '/tmp'" >>"$PGDATA/postgresql.conf"
  if [ "$database" != postgres ]; then
    printf 'CREATE DATABASE "%s"\n' "$database" | postgres --single -D "$PGDATA" postgres >/dev/null
  fi
fi
exec "$@"
