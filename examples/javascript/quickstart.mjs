// A first client: log in, pay, and chat over a socket that reconnects and resumes.
//
// It uses what browsers have (fetch, WebSocket) and runs in Node, too:
//
//     node --experimental-websocket quickstart.mjs http://127.0.0.1:8000/drfchelseru 09120000001
//
// core/gateway/CHAT.md lists every frame and close code, core/http/ERRORS.md every error code, `openapi.json` every
// request. A page of another site needs its origin in `server.origins`.

/** An error of the API, by its stable code. */
export class ApiError extends Error {
  constructor(status, code, body) {
    super(`${status} ${code}: ${JSON.stringify(body)}`);
    Object.assign(this, { status, code, body });
  }
}

/** Requests with tokens that renew themselves. */
export class Client {
  #refreshing = null;

  constructor(base, tokens = null) {
    this.base = base;
    this.tokens = tokens; // Keep them where they survive a reload of the page.
  }

  async request(method, path, body) {
    const send = () =>
      fetch(this.base + path, {
        method,
        headers: {
          ...(body !== undefined && { "Content-Type": "application/json" }),
          ...(this.tokens && { Authorization: `Bearer ${this.tokens.access}` }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    let response = await send();
    if (response.status === 401 && this.tokens && response.headers.get("X-Error-Code") === "token_not_valid") {
      await this.refresh();
      response = await send();
    }
    return read(response);
  }

  /** Requests a code, asks the user for it, and logs in. */
  async login(number, askCode) {
    this.tokens = null;
    try {
      await this.request("POST", "/otp/send/", { mobile_number: number });
    } catch (error) {
      // A code that was sent before is still good.
      if (error.code !== "otp_pending") throw error;
    }
    const code = await askCode(number);
    this.tokens = await this.request("POST", "/authenticate/", { mobile_number: number, code });
  }

  /** Replaces the tokens, once for all requests that wait. After a lost answer the same token may be sent again. */
  refresh() {
    this.#refreshing ??= fetch(`${this.base}/token/refresh/`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ refresh: this.tokens.refresh }),
    })
      .then(read)
      .then((tokens) => (this.tokens = tokens))
      .finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }
}

async function read(response) {
  const text = await response.text();
  const body = text ? JSON.parse(text) : null;
  if (!response.ok) throw new ApiError(response.status, response.headers.get("X-Error-Code"), body);
  return body;
}

/** Close codes after which reconnecting is of no use: no valid session. */
const ENDED = [4401, 4411];

/** All rooms over one socket. A lost connection is resumed: no message is missed, and none is shown twice. */
export class Chat {
  #socket = null;
  #attempts = 0;
  #outbox = new Map(); // Unacknowledged messages, by their client id.
  #rooms = new Map(); // The last seq and revision that were seen, by room.
  #renewal = null;
  #ready = false; // Whether `hello` came.
  #closed = false;

  constructor(client, { onMessage, onEnded = () => {} }) {
    Object.assign(this, { client, onMessage, onEnded });
    this.#connect();
  }

  /** Watches a room from a position on; without one, from now. */
  watch(room, { seq, revision } = {}) {
    this.#rooms.set(room, { seq, revision });
    this.#send({ type: "subscribe", room, since: seq, revision });
  }

  /** Sends a message. It is sent again after a lost connection, and stored once. */
  publish(room, message) {
    const client_id = crypto.randomUUID();
    const frame = { type: "publish", room, message, client_id };
    this.#outbox.set(client_id, frame);
    this.#send(frame);
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#renewal);
    this.#socket?.close();
  }

  #connect() {
    const url = new URL(`${this.client.base}/ws/`);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url, ["chelseru"]);
    this.#socket = socket;
    // The token goes into the first frame: addresses end up in logs.
    socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token: this.client.tokens.access }));
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    let lost = (code) => {
      lost = () => {};
      this.#reconnect(code);
    };
    socket.onclose = ({ code }) => lost(code);
    // Node 20 reports a connection that could not be made by this event alone.
    socket.onerror = () => lost(1006);
  }

  async #reconnect(code) {
    clearTimeout(this.#renewal);
    this.#ready = false;
    if (this.#closed) return;
    const wait = Math.min(30_000, 500 * 2 ** this.#attempts++) * (0.5 + Math.random() / 2);
    await new Promise((resolve) => setTimeout(resolve, wait));
    try {
      await this.client.refresh();
    } catch (error) {
      // Without an answer the network is still gone: go on trying.
      if (error instanceof ApiError && error.status === 401) return this.onEnded(code);
    }
    if (ENDED.includes(code) && this.#attempts > 1) return this.onEnded(code);
    if (!this.#closed) this.#connect();
  }

  #send(frame) {
    // Before `hello` nothing but the token may be sent; `hello` sends what waits.
    if (this.#ready) this.#socket.send(JSON.stringify(frame));
  }

  #receive(frame) {
    switch (frame.type) {
      case "authenticated": {
        // A newer token on the open socket, in time.
        const left = new Date(frame.expires_at) - Date.now();
        this.#renewal = setTimeout(async () => {
          // Without an answer the socket ends with its token, and reconnecting refreshes it.
          await this.client.refresh().catch(() => {});
          if (this.#ready) this.#socket.send(JSON.stringify({ type: "auth", token: this.client.tokens.access }));
        }, Math.max(1000, left - 30_000));
        break;
      }
      case "hello": {
        this.#attempts = 0;
        this.#ready = true;
        const rooms = [...this.#rooms].map(([room, { seq, revision }]) => ({ room, since: seq, revision }));
        if (rooms.length > 0) this.#send({ type: "subscribe", rooms });
        for (const waiting of this.#outbox.values()) this.#send(waiting);
        break;
      }
      case "subscribed":
      case "reset": {
        const seen = this.#rooms.get(frame.room);
        if (!seen) break;
        // After a reset the page reloads the room by request; what follows `seq` still comes here.
        if (seen.seq === undefined || frame.type === "reset") seen.seq = frame.seq;
        if (seen.revision === undefined || frame.type === "reset") seen.revision = frame.revision;
        break;
      }
      case "chat_message": {
        const seen = this.#rooms.get(frame.room);
        if (!seen || frame.seq <= seen.seq) break;
        seen.seq = frame.seq;
        this.onMessage(frame);
        break;
      }
      case "message_edited":
      case "message_deleted": {
        const seen = this.#rooms.get(frame.room);
        if (seen && frame.revision) seen.revision = frame.revision;
        break;
      }
      case "ack":
        this.#outbox.delete(frame.client_id);
        break;
      case "error":
        if (frame.client_id && frame.code !== "busy" && frame.code !== "rate_limited") {
          this.#outbox.delete(frame.client_id);
        }
        console.error("refused:", frame);
        break;
    }
  }
}

/** The demonstration: log in, begin a payment, chat with account `peer` until somebody says "bye". */
async function main([base, number, code, peer]) {
  const client = new Client(base);
  await client.login(number, async () => code ?? (await ask(`The code sent to ${number}: `)));
  const me = await client.request("GET", "/me/");
  console.log(`logged in as ${me.id}`);

  const { details } = await client.request("POST", "/payment/create/", { amount: 1000 });
  console.log(`pay at ${details.gateway_url}`);

  if (peer === undefined) return;
  const room = await client.request("POST", "/chat/chatrooms/", { user_id: Number(peer) });
  await new Promise((resolve) => {
    const chat = new Chat(client, {
      onMessage: ({ seq, sender, message }) => {
        console.log(`${seq} ${sender.id}: ${message}`);
        if (message === "bye") resolve(chat.close());
      },
      onEnded: (reason) => resolve(console.log(`logged out (${reason})`)),
    });
    chat.watch(room.id, { seq: room.last_seq });
    chat.publish(room.id, "hello");
  });
}

async function ask(question) {
  const { createInterface } = await import("node:readline/promises");
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question(question);
  terminal.close();
  return answer.trim();
}

if (globalThis.process?.argv[1] === new URL(import.meta.url).pathname) await main(process.argv.slice(2));
