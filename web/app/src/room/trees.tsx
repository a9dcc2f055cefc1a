/** The trees, live: who feeds whom, per stream, how well, and why; and how trees are chosen. */
import type { Policy, Tree } from "@grove/client/signal/messages";
import { isRelay } from "@grove/client/signal/relays";
import { useId } from "preact/hooks";
import type { Call } from "../state/call.ts";
import { treeId } from "./changes.ts";
import { SidePanel } from "./panel.tsx";
import * as say from "./sentences.ts";
import { TreeView } from "./tree-view.tsx";

export function TreesPanel({ call }: { call: Call }) {
  const { trees, me, others, policy, relays, neverRelay } = call.state.value;
  const personOf = (node: number) => others.find((person) => person.node === node);
  const nameOf = (node: number) => {
    if (node === me) return "You";
    return isRelay(node) ? "the server" : (personOf(node)?.name ?? `somebody (${node})`);
  };
  const all = [...(trees?.trees ?? [])].sort((a, b) => Number(b.stream.node === me) - Number(a.stream.node === me));
  return (
    <SidePanel call={call} title="Trees" wide>
      <div class="panel-body">
        <p class="help-line">
          Every picture travels along a tree of browsers. Choose a circle or a line to read what it does.
        </p>
        <PolicyChoice
          policy={policy}
          relay={relays.length > 0}
          never={neverRelay}
          onChange={(next, never) => call.room.setPolicy(next, never)}
        />
        <PassingOn call={call} />
        {trees === null && <p class="empty">The picture of the trees is on its way…</p>}
        {trees !== null && all.length === 0 && (
          <p class="empty">Nobody sends anything yet. A tree grows as soon as a camera or a microphone is on.</p>
        )}
        {all.map((tree) => (
          <TreeView
            key={treeId(tree)}
            tree={tree}
            me={me}
            nameOf={nameOf}
            title={streamTitle(call, tree, nameOf)}
            stream={streamTitle(call, tree, nameOf, true)}
            sizes={layersOf(call, tree)}
            way={personOf(tree.stream.node)?.way ?? null}
            change={call.changes.value.get(treeId(tree)) ?? null}
          />
        ))}
        <Legend
          server={all.some(({ edges }) => edges.some(({ child }) => isRelay(child)))}
          backups={all.some(({ edges }) => edges.some(({ backup }) => backup !== undefined))}
        />
      </div>
    </SidePanel>
  );
}

function streamTitle(call: Call, tree: Tree, nameOf: say.NameOf, inside = false): string {
  const what = tree.stream.stream === 0 ? "camera and microphone" : "screen";
  if (tree.stream.node === call.state.value.me) return `${inside ? "your" : "Your"} ${what}`;
  return `${nameOf(tree.stream.node)}'s ${what}`;
}

/** The stream's layers as far as this browser knows them: its own exactly, another's largest one. */
function layersOf(call: Call, tree: Tree): say.LayerSize[] {
  const { me, sending, others } = call.state.value;
  if (tree.stream.node === me) return sending.layers;
  const person = others.find((other) => other.node === tree.stream.node);
  const stream = person?.streams.find((candidate) => candidate.ref.stream === tree.stream.stream);
  if (stream === undefined || stream.width === 0) return [];
  const top = Math.max(1, ...tree.edges.map((edge) => edge.layer ?? 0));
  return Array.from({ length: top + 1 }, (_, layer) => ({
    width: Math.round(stream.width / 2 ** (top - layer)),
    height: Math.round(stream.height / 2 ** (top - layer)),
  }));
}

/** What this device does for others, and the switch for it. */
function PassingOn({ call }: { call: Call }) {
  const id = useId();
  const { forwarding, passesOn } = call.state.value.sending;
  const { people, bps } = forwarding;
  return (
    <section class={people > 0 ? "passing on" : "passing"} aria-label="Passing on for others">
      <p>{say.forwardingSentence(people, bps, passesOn)}</p>
      <label class="switch">
        <span>Pass on for others</span>
        <input
          type="checkbox"
          role="switch"
          aria-checked={passesOn}
          checked={passesOn}
          aria-describedby={id}
          onChange={(event) => call.setPassesOn(event.currentTarget.checked)}
        />
      </label>
      <p class="muted small" id={id}>
        {say.passOnWords(passesOn)}
      </p>
    </section>
  );
}

const BRANCHINGS = [1, 2, 3, 4, 6, 8];

interface PolicyProps {
  policy: Policy;
  /** The server has a relay. */
  relay: boolean;
  /** Relays are forbidden. */
  never: boolean;
  onChange: (policy: Policy, never?: boolean) => void;
}

function PolicyChoice({ policy, relay, never, onChange }: PolicyProps) {
  const id = useId();
  const branching = policy.kind === "tree" ? policy.branching : 2;
  const kinds: { kind: Policy["kind"]; text: string; policy: Policy }[] = [
    { kind: "auto", text: "Automatic", policy: { kind: "auto" } },
    { kind: "mesh", text: "Mesh", policy: { kind: "mesh" } },
    { kind: "tree", text: "Tree", policy: { kind: "tree", branching } },
  ];
  if ((relay && !never) || policy.kind === "relay") {
    kinds.push({ kind: "relay", text: "Through the server", policy: { kind: "relay" } });
  }
  const options = BRANCHINGS.includes(branching) ? BRANCHINGS : [...BRANCHINGS, branching].sort((a, b) => a - b);
  return (
    <fieldset class="policy">
      <legend>How trees are chosen, for everybody</legend>
      <div class="policy-row">
        <div class="segmented text">
          {kinds.map((entry) => (
            <label key={entry.kind}>
              <input
                type="radio"
                name="policy"
                class="hidden"
                checked={policy.kind === entry.kind}
                onChange={() => onChange(entry.policy)}
              />
              {entry.text}
            </label>
          ))}
        </div>
        {policy.kind === "tree" && (
          <span class="branching">
            <label for={id}>of</label>
            <select
              id={id}
              aria-label="Children per browser"
              value={branching}
              onChange={(event) => onChange({ kind: "tree", branching: Number(event.currentTarget.value) })}
            >
              {options.map((option) => (
                <option key={option} value={option} selected={option === branching}>
                  {option}
                </option>
              ))}
            </select>
          </span>
        )}
      </div>
      <p class="muted small">{say.policyWords(policy)}</p>
      {(relay || never) && (
        <>
          <label class="check">
            <input
              type="checkbox"
              checked={never}
              aria-describedby={`${id}-never`}
              onChange={(event) => {
                const forbid = event.currentTarget.checked;
                onChange(forbid && policy.kind === "relay" ? { kind: "auto" } : policy, forbid);
              }}
            />
            Never through the server
          </label>
          <p class="muted small" id={`${id}-never`}>
            {say.neverRelayWords(never)}
          </p>
        </>
      )}
    </fieldset>
  );
}

function Legend({ server, backups }: { server: boolean; backups: boolean }) {
  return (
    <p class="muted small legend">
      A thicker line carries more. A dotted line has not delivered yet.
      {backups && " A thin dashed line leads from whoever takes over, should the line above fail."} A line with{" "}
      <strong>!</strong> has gaps, one with <strong>×</strong> is bad.
      {server && " The square is the server, which passes on and can open nothing."}
    </p>
  );
}
