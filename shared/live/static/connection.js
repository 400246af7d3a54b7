// The WebSocket: says which runs are wanted, confirms what came, and comes back by itself.

const SILENT_MS = 15000; // the hub says something every five seconds
const WAIT_MS = [300, 600, 1200, 2500, 5000];
const TOKEN_KEY = "sweetspot-live-token";

export class Connection {
  constructor({ onMessage, onState, onToken }) {
    Object.assign(this, { onMessage, onState, onToken });
    this.selected = [];
    this.sweep = null;
    this.tries = 0;
    takeTokenFromAddress();
    setInterval(() => this.watch(), 1000);
  }

  open() {
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/view`);
    this.socket = socket;
    this.heard = Date.now();
    socket.onopen = () => socket.send(JSON.stringify({ type: "hello", token: sessionStorage.getItem(TOKEN_KEY), select: this.selected, sweep: this.sweep }));
    socket.onmessage = (event) => this.receive(socket, event);
    socket.onclose = (event) => {
      if (this.socket === socket) this.lost(event);
    };
  }

  select(ids, sweep) {
    this.selected = ids;
    this.sweep = sweep;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "select", select: ids, sweep }));
  }

  setToken(token) {
    sessionStorage.setItem(TOKEN_KEY, token);
    this.open();
  }

  receive(socket, event) {
    if (this.socket !== socket) return;
    this.heard = Date.now();
    const message = JSON.parse(event.data);
    if (message.type === "welcome") {
      this.tries = 0;
      this.onState("connected");
    } else {
      socket.send('{"type": "ack"}');
    }
    this.onMessage(message);
  }

  lost(event) {
    this.socket = null;
    if (event.code === 4401) {
      this.onState("waiting for the token");
      this.onToken(sessionStorage.getItem(TOKEN_KEY) ? "The token that was given is not the right one." : "");
      return;
    }
    this.onState(event.reason ? `refused: ${event.reason}` : "hub not reached, trying again");
    this.timer = setTimeout(() => this.open(), WAIT_MS[Math.min(this.tries, WAIT_MS.length - 1)]);
    this.tries += 1;
  }

  watch() {
    if (this.socket && Date.now() - this.heard > SILENT_MS) {
      const silent = this.socket;
      this.socket = null;
      silent.close();
      this.lost({ code: 0, reason: "" });
    }
  }
}

/**
 * A token behind the # of the address, which no server is sent, is kept for this tab and taken out of the address, so
 * that it is not bookmarked or shared. Says whether there was one.
 */
export function takeTokenFromAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const token = parts.get("token");
  if (token === null) return false;
  sessionStorage.setItem(TOKEN_KEY, token);
  parts.delete("token");
  history.replaceState(null, "", `${location.pathname}${location.search}#${parts}`);
  return true;
}
