"""A small mail server that keeps what it is given, and refuses what it is told to."""

import socketserver
import threading


class Sink:
    """`mails`: (recipients, the message as it came). `refuses`: by recipient, the line that it is answered with."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []
        self.refuses: dict[str, str] = {}
        sink = self

        class Session(socketserver.StreamRequestHandler):
            def say(self, line: str) -> None:
                self.wfile.write(line.encode() + b"\r\n")

            def handle(self) -> None:
                to: list[str] = []
                self.say("220 sink")
                for raw in self.rfile:
                    line = raw.decode().strip()
                    verb = line[:4].upper()
                    if verb == "RCPT":
                        address = line.partition("<")[2].partition(">")[0]
                        refused = sink.refuses.get(address)
                        self.say(refused or "250 ok")
                        to += [] if refused else [address]
                    elif verb == "DATA":
                        self.say("354 go on")
                        text = []
                        while (part := self.rfile.readline()) not in (b".\r\n", b""):
                            text.append(part)
                        sink.mails.append((to, b"".join(text)))
                        self.say("250 taken")
                        to = []
                    elif verb == "QUIT":
                        self.say("221 bye")
                        return
                    else:
                        self.say("250 sink")

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = allow_reuse_address = True

        self.server = Server(("127.0.0.1", 0), Session)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
