"""The wire protocol as code: frames, names, close codes, signals, SDP facts, ICE servers, tokens, secrets."""
