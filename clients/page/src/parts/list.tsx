// A list of which only the visible rows are in the document.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

/** Rows beyond the visible ones. */
const MARGIN = 6;

interface ListProps {
  readonly label: string;
  readonly count: number;
  /** Height of a row in pixels; that of the style sheet must be the same. */
  readonly rowHeight: number;
  readonly keyOf: (index: number) => string;
  readonly row: (index: number) => ComponentChildren;
}

/** The list. Arrow keys, Home, End, Page Up and Page Down move the focus between links of rows. */
export function List({ label, count, rowHeight, keyOf, row }: ListProps) {
  const frame = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const wanted = useRef<number | undefined>(undefined);

  useLayoutEffect(() => {
    const element = frame.current;
    if (element === null) {
      return undefined;
    }
    const measure = () => setHeight(element.clientHeight);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    if (wanted.current !== undefined) {
      focusRow(frame.current, wanted.current);
      wanted.current = undefined;
    }
  });

  const first = Math.max(0, Math.floor(top / rowHeight) - MARGIN);
  const last = Math.min(count, Math.ceil((top + height) / rowHeight) + MARGIN);
  const page = Math.max(1, Math.floor(height / rowHeight) - 1);

  const onKeyDown = (event: KeyboardEvent) => {
    const focused = (event.target as HTMLElement).closest<HTMLElement>("[data-index]");
    if (focused === null || count === 0) {
      return;
    }
    const index = Number(focused.dataset.index);
    const moves: Readonly<Record<string, number>> = {
      ArrowDown: index + 1,
      ArrowUp: index - 1,
      PageDown: index + page,
      PageUp: index - page,
      Home: 0,
      End: count - 1,
    };
    const move = moves[event.key];
    if (move === undefined || frame.current === null) {
      return;
    }
    event.preventDefault();
    const target = Math.min(count - 1, Math.max(0, move));
    const [start, end] = [target * rowHeight, (target + 1) * rowHeight];
    const { scrollTop } = frame.current;
    if (start < scrollTop) {
      frame.current.scrollTop = start;
    } else if (end > scrollTop + height) {
      frame.current.scrollTop = end - height;
    }
    if (!focusRow(frame.current, target)) {
      wanted.current = target;
      setTop(frame.current.scrollTop);
    }
  };

  const rows = [];
  for (let index = first; index < last; index += 1) {
    rows.push(
      <li
        key={keyOf(index)}
        class="row"
        data-index={index}
        aria-setsize={count}
        aria-posinset={index + 1}
        style={{ top: `${index * rowHeight}px`, height: `${rowHeight}px` }}
      >
        {row(index)}
      </li>,
    );
  }
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: keys of the links within move the focus between them.
    <div class="list" ref={frame} onScroll={(event) => setTop(event.currentTarget.scrollTop)} onKeyDown={onKeyDown}>
      <ul aria-label={label} style={{ height: `${count * rowHeight}px` }}>
        {rows}
      </ul>
    </div>
  );
}

function focusRow(frame: HTMLElement | null, index: number): boolean {
  const link = frame?.querySelector<HTMLElement>(`[data-index="${index}"] a, [data-index="${index}"] button`);
  link?.focus({ preventScroll: true });
  return link !== null && link !== undefined;
}
