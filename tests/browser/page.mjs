// A page of another site: log in, meet, chat, send a picture, block, log out. Plain JavaScript over the quick start's
// client. The journey `page.rs` drives it through Chromium; `?base=` is the gateway's base address.

import { ApiError, Chat, Client } from "./quickstart.mjs";

const base = new URLSearchParams(location.search).get("base");
const client = new Client(base);
const show = (id, text) => (document.getElementById(id).textContent = text);
let chat = null;
let room = null;

/** Runs on submit or click, and shows what fails. */
function on(id, work) {
  const element = document.getElementById(id);
  element.addEventListener(element.tagName === "FORM" ? "submit" : "click", async (event) => {
    event.preventDefault();
    show("error", "");
    try {
      await work(element.tagName === "FORM" ? Object.fromEntries(new FormData(element)) : {});
    } catch (error) {
      show("error", error instanceof ApiError ? error.code : String(error));
    }
  });
}

on("login", async ({ number, code }) => {
  await client.login(number, async () => code);
  const me = await client.request("GET", "/me/");
  chat = new Chat(client, { onMessage: received, onEnded: (code) => show("state", `ended ${code}`) });
  show("state", `logged in as ${me.id}`);
});

on("meet", async ({ peer }) => {
  room = await client.request("POST", "/chat/chatrooms/", { user_id: Number(peer) });
  chat.watch(room.id, { seq: room.last_seq });
  show("state", `room ${room.id}`);
});

on("accept", async () => {
  const { results } = await client.request("GET", "/chat/requests/");
  room = await client.request("POST", `/chat/requests/${results[0].room}/accept/`);
  chat.watch(room.id, { seq: 0, revision: 0 });
  show("state", `room ${room.id}`);
});

on("say", async ({ text }) => {
  await client.request("POST", "/chat/messages/", { chat_room: room.id, text, client_id: crypto.randomUUID() });
});

on("picture", async () => {
  const file = await upload(await drawn());
  const sent = { chat_room: room.id, message_type: "image", attach_id: file.id };
  const message = await client.request("POST", "/chat/messages/", sent);
  // Links in replies need no header.
  const image = new Image();
  image.src = message.file.link;
  await image.decode();
  show("state", `sent ${image.naturalWidth}x${image.naturalHeight}`);
});

on("block", async ({ user }) => {
  await client.request("POST", "/chat/blocks/", { user_id: Number(user) });
  show("state", `blocked ${user}`);
});

on("logout", async () => {
  await client.request("POST", "/logout/", { refresh: client.tokens.refresh });
  chat.close();
  const left = client.tokens;
  client.tokens = { access: left.access, refresh: left.refresh };
  const gone = await client.request("GET", "/me/").catch((error) => error.status);
  show("state", `logged out ${gone}`);
});

/** A picture of noise, which does not compress to nothing. */
function drawn() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(640, 480);
  for (let at = 0; at < pixels.data.length; at++) pixels.data[at] = at % 4 === 3 ? 255 : Math.random() * 256;
  context.putImageData(pixels, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** `fetch` reports no progress of an upload. */
function upload(blob) {
  const form = new FormData();
  form.append("chatroom", room.id);
  form.append("file", blob, "noise.png");
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.upload.onprogress = ({ loaded, total }) => show("progress", `${loaded} of ${total}`);
    request.onload = () => {
      const body = JSON.parse(request.responseText);
      if (request.status === 201) resolve(body);
      else reject(new ApiError(request.status, request.getResponseHeader("X-Error-Code"), body));
    };
    request.onerror = () => reject(new Error("no answer"));
    request.open("POST", `${base}/message/file/upload/`);
    request.setRequestHeader("Authorization", `Bearer ${client.tokens.access}`);
    request.send(form);
  });
}

/** A frame: its links are paths, which need the token. */
async function received({ seq, sender, message, file }) {
  const item = document.createElement("li");
  item.textContent = `${seq} ${sender.id}: ${message}`;
  document.getElementById("messages").append(item);
  if (!file?.thumbnail) return;
  const address = new URL(file.thumbnail.link, base);
  const answer = await fetch(address, { headers: { Authorization: `Bearer ${client.tokens.access}` } });
  const image = new Image();
  image.src = URL.createObjectURL(await answer.blob());
  await image.decode();
  item.append(image, ` ${file.name} ${image.naturalWidth}x${image.naturalHeight}`);
}
