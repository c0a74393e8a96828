"""A first client: log in, pay, and chat over a socket that reconnects and resumes.

It needs Python 3.10 and the package websockets:

    python quickstart.py http://127.0.0.1:8000/drfchelseru 09120000001

{base}/docs/ lists every request, frame and error code; core/gateway/CHAT.md explains order and resume.
"""

import asyncio
import json
import random
import sys
import urllib.error
import urllib.request
import uuid

import websockets

# Close codes after which reconnecting is of no use: no valid session.
ENDED = (4401, 4411)


class ApiError(Exception):
    """An error of the API, by its stable code."""

    def __init__(self, status, code, body):
        super().__init__(f"{status} {code}: {body}")
        self.status, self.code, self.body = status, code, body


class Client:
    """Requests with tokens that renew themselves."""

    def __init__(self, base, tokens=None):
        self.base = base
        self.tokens = tokens  # Keep them where they survive a restart.
        self._refreshing = asyncio.Lock()

    async def request(self, method, path, body=None):
        used = self.tokens
        try:
            return await asyncio.to_thread(self._send, method, path, body, used)
        except ApiError as error:
            if error.code != "token_not_valid" or used is None:
                raise
        await self.refresh(used)
        return await asyncio.to_thread(self._send, method, path, body, self.tokens)

    def _send(self, method, path, body, tokens):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if tokens:
            headers["Authorization"] = f"Bearer {tokens['access']}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, error.headers.get("X-Error-Code"), error.read().decode()) from None
        return json.loads(text) if text else None

    async def login(self, number, ask_code):
        """Requests a code, asks the user for it, and logs in."""
        self.tokens = None
        try:
            await self.request("POST", "/otp/send/", {"mobile_number": number})
        except ApiError as error:
            # A code that was sent before is still good.
            if error.code != "otp_pending":
                raise
        code = await ask_code(number)
        self.tokens = await self.request("POST", "/authenticate/", {"mobile_number": number, "code": code})

    async def refresh(self, used):
        """Replaces the tokens, once for all requests that wait. After a lost answer the same token may be sent again."""
        async with self._refreshing:
            if self.tokens is used:
                body = {"refresh": used["refresh"]}
                self.tokens = await asyncio.to_thread(self._send, "POST", "/token/refresh/", body, None)


class Chat:
    """All rooms over one socket. A lost connection is resumed: no message is missed, and none is shown twice."""

    def __init__(self, client, on_message):
        self.client, self.on_message = client, on_message
        self._socket = None  # Open, and past `hello`.
        self._rooms = {}  # The last seq and revision that were seen, by room.
        self._outbox = {}  # Unacknowledged messages, by their client id.

    async def watch(self, room, seq=None, revision=None):
        """Watches a room from a position on; without one, from now."""
        self._rooms[room] = [seq, revision]
        await self._send({"type": "subscribe", **self._place(room)})

    async def publish(self, room, message):
        """Sends a message. It is sent again after a lost connection, and stored once."""
        frame = {"type": "publish", "room": room, "message": message, "client_id": str(uuid.uuid4())}
        self._outbox[frame["client_id"]] = frame
        await self._send(frame)

    async def run(self):
        """Connects, and again whenever the connection is lost. Returns the close code when the session has ended."""
        attempts, code = 0, None
        while True:
            try:
                if attempts:
                    await asyncio.sleep(min(30, 0.5 * 2**attempts) * random.uniform(0.5, 1))
                    await self.client.refresh(self.client.tokens)
                url = self.client.base.replace("http", "ws", 1) + "/ws/"
                async with websockets.connect(url, subprotocols=["chelseru"]) as socket:
                    # The token goes into the first frame: addresses end up in logs.
                    await socket.send(json.dumps({"type": "auth", "token": self.client.tokens["access"]}))
                    async for text in socket:
                        frame = json.loads(text)
                        if frame["type"] == "hello":
                            attempts = 0
                        await self._receive(socket, frame)
                code = socket.close_code
            except ApiError as error:
                if error.status == 401:
                    return code
            except websockets.ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
            except (OSError, websockets.WebSocketException):
                code = 1006
            finally:
                self._socket = None
            if code in ENDED and attempts > 1:
                return code
            attempts += 1

    def _place(self, room):
        seq, revision = self._rooms[room]
        place = {"room": room, "since": seq, "revision": revision}
        return {name: value for name, value in place.items() if value is not None}

    async def _send(self, frame):
        # Before `hello` nothing but the token may be sent; `hello` sends what waits.
        if self._socket is not None:
            await self._socket.send(json.dumps(frame))

    async def _receive(self, socket, frame):
        kind, seen = frame["type"], self._rooms.get(frame.get("room"))
        if kind == "hello":
            self._socket = socket
            if self._rooms:
                await self._send({"type": "subscribe", "rooms": [self._place(room) for room in self._rooms]})
            for waiting in list(self._outbox.values()):
                await self._send(waiting)
        elif kind in ("subscribed", "reset") and seen:
            # After a reset, load the room by request; what follows `seq` still comes here.
            if seen[0] is None or kind == "reset":
                seen[0] = frame["seq"]
            if seen[1] is None or kind == "reset":
                seen[1] = frame["revision"]
        elif kind == "chat_message" and seen and frame["seq"] > seen[0]:
            seen[0] = frame["seq"]
            await self.on_message(frame)
        elif kind in ("message_edited", "message_deleted") and seen and "revision" in frame:
            seen[1] = frame["revision"]
        elif kind == "ack":
            self._outbox.pop(frame.get("client_id"), None)
        elif kind == "error":
            if frame["code"] not in ("busy", "rate_limited"):
                self._outbox.pop(frame.get("client_id"), None)
            print("refused:", frame, file=sys.stderr)


async def main(base, number, code=None, peer=None):
    """The demonstration: log in, begin a payment, chat with account `peer` until somebody says "bye"."""
    client = Client(base)

    async def ask_code(number):
        return code or (await asyncio.to_thread(input, f"The code sent to {number}: ")).strip()

    await client.login(number, ask_code)
    me = await client.request("GET", "/me/")
    print(f"logged in as {me['id']}", flush=True)

    payment = await client.request("POST", "/payment/create/", {"amount": 1000})
    print(f"pay at {payment['details']['gateway_url']}", flush=True)

    if peer is None:
        return
    room = await client.request("POST", "/chat/chatrooms/", {"user_id": int(peer)})
    done = asyncio.Event()

    async def on_message(frame):
        print(f"{frame['seq']} {frame['sender']['id']}: {frame['message']}", flush=True)
        if frame["message"] == "bye":
            done.set()

    chat = Chat(client, on_message)
    running = asyncio.create_task(chat.run())
    await chat.watch(room["id"], room["last_seq"])
    await chat.publish(room["id"], "hello")
    ended = asyncio.create_task(done.wait())
    await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        print(f"logged out ({running.result()})", flush=True)
    running.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
