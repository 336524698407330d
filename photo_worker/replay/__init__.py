"""The replay gate: recorded histories against the code that is about to be deployed."""
