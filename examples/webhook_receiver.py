"""A webhook receiver: verifies what Millpond sends, by any library of Standard Webhooks, and answers at once.

Needs `pip install standardwebhooks`. Then: MILLPOND_WEBHOOK_SECRET=whsec_… python webhook_receiver.py 3000
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["MILLPOND_WEBHOOK_SECRET"])


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        try:
            event = webhook.verify(self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers))
        except WebhookVerificationError:
            return self.send_error(401)
        print(self.headers["webhook-id"], event["type"], event["data"].get("id"), flush=True)  # the same id again is the same event
        self.send_response(204)
        return self.end_headers()


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
