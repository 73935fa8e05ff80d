// Tables.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

/** A table. Where it is too wide it scrolls sideways, also by keys: it can have the focus then. */
export function Table({ label, children }: { readonly label: string; readonly children: ComponentChildren }) {
  const frame = useRef<HTMLDivElement>(null);
  const [isWide, setWide] = useState(false);
  useEffect(() => {
    const element = frame.current;
    if (element === null) {
      return;
    }
    const observer = new ResizeObserver(() => setWide(element.scrollWidth > element.clientWidth));
    // The frame changes with the window, and the table with its rows.
    for (const one of [element, ...element.children]) {
      observer.observe(one);
    }
    return () => observer.disconnect();
  }, []);
  return (
    <div class="scroll" ref={frame} tabIndex={isWide ? 0 : undefined}>
      <table aria-label={label}>{children}</table>
    </div>
  );
}
