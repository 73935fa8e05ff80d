// The stages of a job as a graph. Only what is in sight is in the document.
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Stage, StageState } from "../client/gen/interlock/v1/job_pb.js";
import { percent, words } from "../logic/format.js";
import { type Box, columnTop, type Layout, layout, type Place, type Sizes, visible } from "../logic/graph.js";
import { Text } from "../parts/basics.js";
import { useNarrow } from "../parts/narrow.js";

const ROW = 60;
/** Width of a column at most; the drawing is made as wide as its frame. */
const WIDEST = 300;
const NODE_HEIGHT = 48;
/** Widths of a stage and of the gap behind it at least; on phones two columns are in sight. */
const WIDE = { node: 176, gap: 40 };
const NARROW = { node: 132, gap: 28 };
const PADDING = 8;
/** Edges that are drawn at most. */
const EDGES = 1_500;

interface GraphProps {
  readonly stages: readonly Stage[];
  readonly selected: string;
  readonly onSelect: (name: string) => void;
}

export function Graph({ stages, selected, onSelect }: GraphProps) {
  const frame = useRef<HTMLDivElement>(null);
  const [box, setBox] = useState<Box>({ left: 0, top: 0, width: 1200, height: 600 });
  // A change of a state does not move stages.
  const shape = stages.map(({ name, dependsOn }) => `${name} ${dependsOn.join(" ")}`).join("\n");
  const graph = useMemo(() => layout(stages), [shape]);
  const byName = useMemo(() => new Map(stages.map((stage) => [stage.name, stage])), [stages]);

  const look = () => {
    const element = frame.current;
    if (element !== null) {
      const { scrollLeft: left, scrollTop: top, clientWidth: width, clientHeight: height } = element;
      setBox({ left, top, width, height });
    }
  };
  useLayoutEffect(() => {
    look();
    const observer = new ResizeObserver(look);
    if (frame.current !== null) {
      observer.observe(frame.current);
    }
    return () => observer.disconnect();
  }, []);

  const least = useNarrow() ? NARROW : WIDE;
  const sizes: Sizes & { readonly nodeWidth: number } = {
    nodeWidth: least.node,
    columnWidth: Math.min(
      WIDEST,
      Math.max(least.node + least.gap, Math.floor(box.width / Math.max(1, graph.columns.length))),
    ),
    rowHeight: ROW,
  };
  const margin = { left: box.left - 200, top: box.top - 200, width: box.width + 400, height: box.height + 400 };
  const places = visible(graph, margin, sizes);
  const width = graph.columns.length * sizes.columnWidth - (sizes.columnWidth - sizes.nodeWidth) + 2 * PADDING;
  const height = graph.rows * ROW + 2 * PADDING;

  const onKeyDown = (event: KeyboardEvent) => {
    const name = (event.target as HTMLElement).dataset.stage;
    const target = name === undefined ? undefined : neighbour(graph, name, event.key);
    if (target === undefined || frame.current === null) {
      return;
    }
    event.preventDefault();
    const element = frame.current;
    const { x, y } = at(graph, target, sizes);
    element.scrollLeft = Math.min(Math.max(element.scrollLeft, x + sizes.nodeWidth - box.width + PADDING), x - PADDING);
    element.scrollTop = Math.min(Math.max(element.scrollTop, y + NODE_HEIGHT - box.height + PADDING), y - PADDING);
    look();
    requestAnimationFrame(() => focusStage(element, target.name));
  };

  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms.
    <div class="graph" ref={frame} onScroll={look} onKeyDown={onKeyDown} role="group" aria-label="Graph of stages">
      <div class="canvas" style={{ width: `${width}px`, height: `${height}px` }}>
        <Edges graph={graph} sizes={sizes} places={places} width={width} height={height} byName={byName} />
        {places.map((place) => {
          const stage = byName.get(place.name);
          return (
            stage !== undefined && (
              <Node
                key={place.name}
                stage={stage}
                width={sizes.nodeWidth}
                {...at(graph, place, sizes)}
                isSelected={place.name === selected}
                onSelect={onSelect}
              />
            )
          );
        })}
      </div>
    </div>
  );
}

function at(graph: Layout, place: Place, sizes: Sizes): { readonly x: number; readonly y: number } {
  const top = columnTop(graph, graph.columns[place.column]?.length ?? 0, sizes);
  return { x: PADDING + place.column * sizes.columnWidth, y: PADDING + top + place.row * sizes.rowHeight };
}

/** The place that an arrow key leads to. */
function neighbour(graph: Layout, name: string, key: string): Place | undefined {
  const place = graph.places.find((one) => one.name === name);
  if (place === undefined) {
    return undefined;
  }
  const beside = (column: number) => {
    const list = graph.columns[column] ?? [];
    return list[Math.min(place.row, list.length - 1)];
  };
  switch (key) {
    case "ArrowUp":
      return graph.columns[place.column]?.[place.row - 1];
    case "ArrowDown":
      return graph.columns[place.column]?.[place.row + 1];
    case "ArrowLeft":
      return beside(place.column - 1);
    case "ArrowRight":
      return beside(place.column + 1);
    default:
      return undefined;
  }
}

function focusStage(frame: HTMLElement, name: string): void {
  for (const node of frame.querySelectorAll<HTMLElement>("[data-stage]")) {
    if (node.dataset.stage === name) {
      node.focus({ preventScroll: true });
    }
  }
}

interface EdgesProps {
  readonly graph: Layout;
  readonly sizes: Sizes & { readonly nodeWidth: number };
  readonly places: readonly Place[];
  readonly width: number;
  readonly height: number;
  readonly byName: ReadonlyMap<string, Stage>;
}

function Edges({ graph, sizes, places, width, height, byName }: EdgesProps) {
  const edges = [];
  for (const place of places) {
    const end = at(graph, place, sizes);
    for (const source of place.from) {
      if (edges.length >= EDGES) {
        break;
      }
      const start = at(graph, source, sizes);
      const [x1, y1] = [start.x + sizes.nodeWidth, start.y + NODE_HEIGHT / 2];
      const [x2, y2] = [end.x, end.y + NODE_HEIGHT / 2];
      const bend = Math.max(20, (x2 - x1) / 2);
      const isDone = byName.get(source.name)?.state === StageState.SUCCEEDED;
      edges.push(
        <path
          key={`${source.name} ${place.name}`}
          class={isDone ? "done" : ""}
          d={`M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`}
        />,
      );
    }
  }
  return (
    <svg width={width} height={height} aria-hidden="true">
      {edges}
    </svg>
  );
}

interface NodeProps {
  readonly stage: Stage;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly isSelected: boolean;
  readonly onSelect: (name: string) => void;
}

function Node({ stage, x, y, width, isSelected, onSelect }: NodeProps) {
  const state = StageState[stage.state] ?? "UNSPECIFIED";
  const isRunning = stage.state === StageState.RUNNING;
  return (
    <button
      type="button"
      class={`node ${state.toLowerCase()}`}
      data-stage={stage.name}
      aria-pressed={isSelected}
      style={{ left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${NODE_HEIGHT}px` }}
      onClick={() => onSelect(stage.name)}
    >
      <span class="name">
        <Text value={stage.name} />
      </span>
      <span class="about">
        {words(state)}
        {stage.attempt > 1 && ` · attempt ${stage.attempt}/${stage.maxAttempts}`}
        {isRunning && ` · ${percent(stage.progress)}`}
      </span>
      {isRunning && <span class="fill" style={{ transform: `scaleX(${stage.progress})` }} />}
    </button>
  );
}
