// The frame of the page: navigation, namespace, connection, key.
import { useEffect, useRef, useState } from "preact/hooks";
import { call, connection, epoch, hasKey, keyNeeded, storeKey } from "./api.js";
import { AdminService } from "./client/gen/interlock/v1/admin_service_pb.js";
import { duration } from "./logic/format.js";
import { Ask, Notice } from "./parts/ask.js";
import { useTask } from "./parts/live.js";
import { useNarrow } from "./parts/narrow.js";
import { go, href, namespace, route } from "./router.js";
import { useClock, useValue } from "./value.js";
import { JobView } from "./views/job.js";
import { JobsView } from "./views/jobs.js";
import { PermitsView } from "./views/permits.js";
import { QueuesView } from "./views/queues.js";
import { RecordsView } from "./views/records.js";
import { ServerView } from "./views/server.js";
import { SessionsView } from "./views/sessions.js";

const PLACES: readonly (readonly [path: string, title: string])[] = [
  ["jobs", "Jobs"],
  ["queues", "Queues"],
  ["permits", "Permits"],
  ["records", "Records"],
  ["sessions", "Sessions"],
  ["server", "Server"],
];

export function App() {
  const { path } = useValue(route);
  const [place = "jobs", name] = path;
  const title = PLACES.find(([known]) => known === place)?.[1] ?? "Not found";
  useEffect(() => {
    document.title = `${name ?? title} · Interlock`;
  }, [name, title]);
  useEffect(() => {
    // On phones the navigation is wider than the page.
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [place]);
  return (
    <>
      <button type="button" class="skip" onClick={skip}>
        Skip to content
      </button>
      <header class="top">
        <a class="brand" href={href(["jobs"])}>
          <img src="icon.svg" alt="" width="24" height="24" />
          Interlock
        </a>
        <nav aria-label="Views">
          {PLACES.map(([known, label]) => (
            <a key={known} href={href([known])} aria-current={known === place ? "page" : undefined}>
              {label}
            </a>
          ))}
        </nav>
        <div class="tools">
          <Namespace />
          <KeyButton />
          <Status />
        </div>
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, and keys must reach that in a view without links. */}
      <main id="main" tabIndex={0} data-view={place}>
        <View place={place} name={name} />
      </main>
      <Cut />
      <Notice />
      <Ask />
      <KeyDialog />
    </>
  );
}

function skip(): void {
  document.getElementById("main")?.focus();
}

function View({ place, name }: { readonly place: string; readonly name: string | undefined }) {
  switch (place) {
    case "jobs":
      return name === undefined ? <JobsView /> : <JobView key={name} jobId={name} />;
    case "queues":
      return <QueuesView />;
    case "permits":
      return <PermitsView name={name} />;
    case "records":
      return <RecordsView collection={name} />;
    case "sessions":
      return <SessionsView sessionId={name} />;
    case "server":
      return <ServerView />;
    default:
      return <h1 class="empty">There is no such view.</h1>;
  }
}

function Namespace() {
  const current = useValue(namespace);
  // Out of sight on a phone, but still the name of the list.
  const label = <span class={useNarrow() ? "hidden" : undefined}>Namespace</span>;
  const [names, setNames] = useState<readonly string[] | undefined>(undefined);
  const fault = useTask(async (signal) => {
    const { namespaces } = await call(AdminService.method.listNamespaces, { pageSize: 1000 }, signal);
    setNames(namespaces.map(({ name }) => name));
  }, []);
  const choose = (chosen: string) => {
    const [place = "jobs"] = route.get().path;
    go(`#/${place}${chosen === "default" ? "" : `?namespace=${encodeURIComponent(chosen)}`}`);
  };
  // Without the role that lists them, a name can be entered.
  if (fault !== undefined) {
    return (
      <label class="namespace">
        {label}
        <input value={current} size={10} onChange={(event) => choose(event.currentTarget.value.trim() || "default")} />
      </label>
    );
  }
  const all = [...new Set([current, ...(names ?? [])])].sort();
  return (
    <label class="namespace">
      {label}
      <select value={current} onChange={(event) => choose(event.currentTarget.value)}>
        {all.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

function KeyButton() {
  return useValue(hasKey) ? (
    <button type="button" onClick={() => storeKey(undefined)}>
      Forget key
    </button>
  ) : null;
}

const STATUS = { connecting: "Connecting", live: "Connected", cut: "Cut off" };

function Status() {
  const { state } = useValue(connection);
  return (
    <span class={`status ${state}`} role="status">
      {STATUS[state]}
    </span>
  );
}

/** Says that what is shown is old. */
function Cut() {
  const shown = useValue(connection);
  const now = useClock();
  if (shown.state !== "cut" || now - shown.since < 300) {
    return null;
  }
  return (
    <p class="banner">
      {shown.why}. What you see is {duration(now - shown.since)} old; the page reconnects by itself.
    </p>
  );
}

function KeyDialog() {
  const why = useValue(keyNeeded);
  useValue(epoch);
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (why !== undefined && dialog.current?.open === false) {
      dialog.current.showModal();
    }
  }, [why]);
  if (why === undefined) {
    return null;
  }
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const key = String(new FormData(event.currentTarget as HTMLFormElement).get("key") ?? "").trim();
    if (key !== "") {
      storeKey(key);
    }
  };
  return (
    <dialog ref={dialog} class="key" aria-label="API key" onCancel={(event) => event.preventDefault()}>
      <form onSubmit={onSubmit}>
        <h2>API key</h2>
        <p>{why}</p>
        <label>
          Key
          <input name="key" type="password" autocomplete="off" required placeholder="il_…" />
        </label>
        <p class="dim">It is kept for this tab only, until the tab is closed.</p>
        <p class="buttons">
          <button type="submit" class="primary">
            Use this key
          </button>
        </p>
      </form>
    </dialog>
  );
}
