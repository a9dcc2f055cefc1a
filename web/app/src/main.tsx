import { render } from "preact";
import { Home } from "./pages/home.tsx";
import { Missing } from "./pages/missing.tsx";
import { RoomPage } from "./pages/room.tsx";
import { place } from "./router.ts";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/pages.css";
import "./styles/room.css";
import "./styles/panels.css";

function App() {
  const { path, hash } = place.value;
  if (path === "/") return <Home />;
  const room = /^\/r\/([^/]+)\/?$/.exec(path)?.[1];
  if (room !== undefined) return <RoomPage key={room + hash} room={room} hash={hash} />;
  return <Missing />;
}

const root = document.getElementById("app");
if (root !== null) render(<App />, root);
