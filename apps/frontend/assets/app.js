// Shows the assistant's answer while it is made. Without this script the form is sent as any other, and the page comes
// back with the whole answer.
"use strict";

const form = document.getElementById("chat");
const input = document.getElementById("chat-input");
const send = form.querySelector("button");
const messages = document.getElementById("messages");

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// What arrives is only ever text: nothing of it can become part of the page's code.
function add(made) {
  messages.querySelector(".hello")?.remove();
  messages.append(made);
  messages.scrollTop = messages.scrollHeight;
  return made;
}

function message(role, text) {
  const who = element("span", { className: "unseen" }, role === "user" ? "You:" : "Assistant:");
  const made = element("div", { className: "message" }, who, element("p", {}, text));
  made.dataset.role = role;
  return add(made);
}

function fail(words) {
  const made = element("p", { className: "error" }, words);
  made.setAttribute("role", "alert");
  add(made);
}

// The events of a response: [name, data].
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const field = (name) => block.split("\n").find((line) => line.startsWith(name + ": "))?.slice(name.length + 2);
      if (field("event")) yield [field("event"), JSON.parse(field("data"))];
    }
  }
}

// The assistant has changed tasks: show them as they are now. What is being typed elsewhere stays.
async function refreshTasks() {
  try {
    const response = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!response.ok) return;
    const list = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("task-list");
    if (list) document.getElementById("task-list").replaceWith(list);
  } catch (error) {
    // The answer goes on: whoever lost it for an old list would ask for the same once more.
    console.warn("the tasks are shown as they were", error);
  }
}

// The conversation has a name from now on: what led back to this page leads back to the conversation.
function named(id) {
  form.elements.conversation_id.value = id;
  const here = new URL(location.href);
  const before = here.searchParams.get("conversation");
  here.searchParams.set("conversation", id);
  here.hash = "";
  history.replaceState(null, "", here);
  // Without any it is the one that changed last: this one.
  if (before === null) return;
  for (const made of document.querySelectorAll("form[action], a[href]:not(#new-conversation)")) {
    const name = made.tagName === "FORM" ? "action" : "href";
    const to = new URL(made.getAttribute(name), location.origin);
    // Links to other conversations stay.
    if (to.searchParams.get("conversation") !== before) continue;
    to.searchParams.set("conversation", id);
    made.setAttribute(name, to.pathname + to.search);
  }
}

async function ask(body) {
  const response = await fetch(form.action, { method: "POST", body, headers: { accept: "text/event-stream" } });
  if (response.redirected || response.status === 401) {
    location.assign("/signin?notice=expired");
    return;
  }
  if (!response.ok) throw new Error(await response.text());
  let answer = null;
  let ended = false;
  const settle = () => { answer?.removeAttribute("aria-busy"); answer = null; };
  try {
    for await (const [event, data] of events(response)) {
      if (event === "conversation") {
        named(data.id);
      } else if (event === "delta") {
        if (!answer) {
          answer = message("assistant", "");
          // Read out once it is whole, not word by word.
          answer.setAttribute("aria-busy", "true");
        }
        answer.querySelector("p").append(data.text);
        messages.scrollTop = messages.scrollHeight;
      } else if (event === "tool") {
        settle();
        add(element("p", { className: "deed" }, (data.ok ? "✓ " : "✗ ") + data.words));
        await refreshTasks();
      } else if (event === "done") {
        ended = true;
      } else if (event === "error") {
        ended = true;
        fail(data.words);
      }
    }
    if (!ended) throw new Error("The answer broke off. Please ask again.");
  } finally {
    settle();
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text || send.disabled) return;
  const body = new URLSearchParams(new FormData(form));
  message("user", text);
  input.value = "";
  send.disabled = true;
  try {
    await ask(body);
  } catch (error) {
    // The browser's own words for a lost connection are for developers.
    fail(error instanceof TypeError ? "The connection was lost. Please check it and ask again." : error.message);
    if (!input.value) input.value = text;
  } finally {
    send.disabled = false;
  }
});

// Enter sends; with Shift it begins a new line.
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});

messages.scrollTop = messages.scrollHeight;
