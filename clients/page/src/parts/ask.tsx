// Dialogs, messages about actions, and the actions themselves.
import { useEffect, useRef, useState } from "preact/hooks";
import { explain } from "../api.js";
import { useValue, Value } from "../value.js";

/** A question before an action. */
export interface Question {
  readonly title: string;
  readonly text: string;
  /** The label of the button that does it. */
  readonly action: string;
  /** Texts to be entered, by name. */
  readonly fields?: readonly {
    readonly name: string;
    readonly label: string;
    readonly value?: string;
    readonly required?: boolean;
  }[];
  readonly run: (values: Readonly<Record<string, string>>) => Promise<string>;
}

const question = new Value<Question | undefined>(undefined);
const notice = new Value<{ readonly text: string; readonly isFault: boolean } | undefined>(undefined);

/** Asks, and runs the action if the answer is yes. */
export function ask(asked: Question): void {
  question.set(asked);
}

/** Runs an action and shows its outcome. */
export async function act(run: () => Promise<string>): Promise<void> {
  try {
    say(await run());
  } catch (error) {
    say(explain(error), true);
  }
}

let timer: ReturnType<typeof setTimeout> | undefined;

function say(text: string, isFault = false): void {
  clearTimeout(timer);
  notice.set({ text, isFault });
  timer = setTimeout(() => notice.set(undefined), isFault ? 15_000 : 5_000);
}

/** Shows the outcome of the last action. */
export function Notice() {
  const shown = useValue(notice);
  return (
    <div class="notice" role="status" aria-live="polite">
      {shown !== undefined && (
        <p class={shown.isFault ? "fault" : ""}>
          {shown.text}
          <button type="button" class="link" onClick={() => notice.set(undefined)}>
            Close
          </button>
        </p>
      )}
    </div>
  );
}

/** Shows the question. */
export function Ask() {
  const asked = useValue(question);
  const dialog = useRef<HTMLDialogElement>(null);
  const [isBusy, setBusy] = useState(false);
  useEffect(() => {
    if (asked !== undefined && dialog.current?.open === false) {
      dialog.current.showModal();
    }
  }, [asked]);
  if (asked === undefined) {
    return null;
  }
  const close = () => question.set(undefined);
  const onSubmit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const values = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value)]));
    setBusy(true);
    await act(() => asked.run(values));
    setBusy(false);
    close();
  };
  return (
    <dialog ref={dialog} onClose={close} aria-label={asked.title}>
      <form onSubmit={onSubmit}>
        <h2>{asked.title}</h2>
        <p>{asked.text}</p>
        {asked.fields?.map(({ name, label, value, required }) => (
          <label key={name}>
            {label}
            <input name={name} defaultValue={value ?? ""} required={required ?? false} autocomplete="off" />
          </label>
        ))}
        <p class="buttons">
          <button type="button" onClick={close}>
            Back
          </button>
          <button type="submit" class="primary" disabled={isBusy}>
            {asked.action}
          </button>
        </p>
      </form>
    </dialog>
  );
}
