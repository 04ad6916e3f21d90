"""What a client may say about itself in the gateway's own words."""

MARK = "spoofed"
"""Part of every forged value, and of nothing else."""

FORGED = (
    ("X-User-Id", MARK),
    ("X_User_Id", MARK),
    ("X-User_Id", MARK),
    ("X-Forwarded-For", f"{MARK}, 203.0.113.9"),
    ("X_Forwarded_For", MARK),
    ("X-Forwarded-Proto", f"http, {MARK}"),
    ("X-Forwarded-Protocol", MARK),
    ("X-Forwarded-Ssl", MARK),
    ("X-Forwarded-Host", f"{MARK}.example"),
    ("X-Forwarded-Port", MARK),
    ("X-Forwarded-Prefix", f"/{MARK}"),
    ("Forwarded", f'for="{MARK}";proto=http;host={MARK}'),
    ("X-Real-IP", MARK),
    ("X-Client-IP", MARK),
    ("X-Original-URL", f"/{MARK}"),
    ("X-Rewrite-URL", f"/{MARK}"),
    ("X-Accel-Redirect", f"/{MARK}"),
    ("X-Request-Id", MARK),
    ("Script-Name", f"/{MARK}"),
    ("SCRIPT_NAME", f"/{MARK}"),
    ("Path-Info", f"/{MARK}"),
    ("PATH_INFO", f"/{MARK}"),
    ("Remote-User", MARK),
    ("REMOTE_USER", MARK),
    ("Proxy", f"http://{MARK}.example"),
    ("Traceparent", MARK),
)
