// The way to the gateway: requests with the token, and the stream of its pictures.

const SILENCE = 25_000; // milliseconds without a picture: the stream is dead
const kept = () => sessionStorage.getItem("sluice-token") ?? "";

export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? `The gateway answers ${status}.`);
    this.status = status;
  }
}

// ask sends a request and decodes the answer. It throws a Refused if the gateway does not do what it is asked.
export async function ask(method, path, body) {
  const response = await request(method, path, { body: body && JSON.stringify(body), signal: AbortSignal.timeout(35_000) });
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

function request(method, path, options = {}) {
  const headers = { Accept: "application/json" };
  if (options.body) headers["Content-Type"] = "application/json";
  if (kept()) headers.Authorization = `Bearer ${kept()}`;
  return fetch(path, { method, headers, cache: "no-store", credentials: "omit", redirect: "error", ...options });
}

export const setToken = (token) => (token ? sessionStorage.setItem("sluice-token", token) : sessionStorage.removeItem("sluice-token"));
export const hasToken = () => kept() !== "";

// follow reads pictures for ever. on.picture gets each; on.lost is told why there are none, and until when to wait;
// on.locked asks for the token, and resolves when there may be another one.
export async function follow(on) {
  for (let failures = 0; ; ) {
    try {
      await read(on.picture, () => (failures = 0));
      failures ||= 1;
      on.lost("the stream ended");
    } catch (e) {
      if (e instanceof Refused && e.status === 401) {
        await on.locked(hasToken());
        continue;
      }
      failures++;
      on.lost(e instanceof Refused ? e.message : "no answer");
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(8000, 500 * 2 ** (failures - 1))));
  }
}

async function read(picture, alive) {
  const controller = new AbortController();
  let timer = setTimeout(() => controller.abort(), SILENCE);
  try {
    const response = await request("GET", "/events", { signal: controller.signal });
    if (!response.ok) throw new Refused(response.status, await response.json().catch(() => null));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const pieces = [];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => controller.abort(), SILENCE);
      // An event's data is one line; a large one comes in many pieces.
      for (let rest = value; rest; ) {
        const end = rest.indexOf("\n");
        pieces.push(end < 0 ? rest : rest.slice(0, end));
        if (end < 0) break;
        const line = pieces.splice(0).join("");
        if (line.startsWith("data: ")) picture(JSON.parse(line.slice(6)));
        alive();
        rest = rest.slice(end + 1);
      }
    }
  } finally {
    clearTimeout(timer);
    controller.abort();
  }
}
