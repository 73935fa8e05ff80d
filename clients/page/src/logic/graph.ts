// The layout of the stages of a job: layers from left to right, each after all that its stages wait for.

/** What the layout needs of a stage. */
export interface GraphStage {
  readonly name: string;
  readonly dependsOn: readonly string[];
}

/** The place of a stage. */
export interface Place {
  readonly name: string;
  /** The layer, from 0. */
  readonly column: number;
  /** The place in the layer, from 0. */
  readonly row: number;
  /** The places of the stages that it waits for. */
  readonly from: readonly Place[];
}

/** A layout. */
export interface Layout {
  /** In the order of the stages. */
  readonly places: readonly Place[];
  /** The places of each layer, in the order of their rows. */
  readonly columns: readonly (readonly Place[])[];
  /** The number of rows of the longest layer. */
  readonly rows: number;
}

interface Draft {
  name: string;
  column: number;
  row: number;
  from: Draft[];
}

/** Lays stages out by the longest path (Sugiyama), with rows in the order of the mean row of what they wait for. */
export function layout(stages: readonly GraphStage[]): Layout {
  const drafts = new Map<string, Draft>(
    stages.map((stage) => [stage.name, { name: stage.name, column: 0, row: 0, from: [] }]),
  );
  const next = new Map<Draft, Draft[]>();
  const waits = new Map<Draft, number>();
  for (const stage of stages) {
    const draft = drafts.get(stage.name);
    if (draft === undefined) {
      continue;
    }
    draft.from = stage.dependsOn.flatMap((name) => drafts.get(name) ?? []);
    waits.set(draft, draft.from.length);
    for (const source of draft.from) {
      const list = next.get(source) ?? [];
      list.push(draft);
      next.set(source, list);
    }
  }
  // Kahn's algorithm. Stages of a cycle, which the server refuses, stay in the first layer.
  const open = [...drafts.values()].filter((draft) => waits.get(draft) === 0);
  for (const draft of open) {
    for (const target of next.get(draft) ?? []) {
      target.column = Math.max(target.column, draft.column + 1);
      const left = (waits.get(target) ?? 1) - 1;
      waits.set(target, left);
      if (left === 0) {
        open.push(target);
      }
    }
  }
  const columns: Draft[][] = [];
  for (const draft of drafts.values()) {
    const column = columns[draft.column] ?? [];
    column.push(draft);
    columns[draft.column] = column;
  }
  for (const column of columns) {
    sortRows(column);
  }
  const rows = Math.max(0, ...columns.map((column) => column.length));
  return { places: [...drafts.values()], columns, rows };
}

function sortRows(column: Draft[]): void {
  const mean = new Map(
    column.map((draft) => {
      const sum = draft.from.reduce((total, source) => total + source.row, 0);
      return [draft, draft.from.length === 0 ? 0 : sum / draft.from.length];
    }),
  );
  // The sort is stable: otherwise stages stay in the order in which they were added.
  column.sort((one, other) => (mean.get(one) ?? 0) - (mean.get(other) ?? 0));
  for (const [row, draft] of column.entries()) {
    draft.row = row;
  }
}

/** A part of the drawing, in pixels. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Sizes of the drawing, in pixels. */
export interface Sizes {
  readonly columnWidth: number;
  readonly rowHeight: number;
}

/** The places within a part of the drawing. Columns that are shorter than the longest one are centred. */
export function visible(graph: Layout, box: Box, sizes: Sizes): Place[] {
  const first = Math.max(0, Math.floor(box.left / sizes.columnWidth));
  const last = Math.min(graph.columns.length - 1, Math.floor((box.left + box.width) / sizes.columnWidth));
  const found: Place[] = [];
  for (let index = first; index <= last; index += 1) {
    const column = graph.columns[index] ?? [];
    const offset = columnTop(graph, column.length, sizes);
    const from = Math.max(0, Math.floor((box.top - offset) / sizes.rowHeight));
    const to = Math.min(column.length - 1, Math.floor((box.top + box.height - offset) / sizes.rowHeight));
    found.push(...column.slice(from, to + 1));
  }
  return found;
}

/** Top of a column with this many rows. */
export function columnTop(graph: Layout, length: number, sizes: Sizes): number {
  // A column that is centred beside thousands of rows would be far out of sight.
  const shown = Math.min(graph.rows, 12);
  return length >= shown ? 0 : ((shown - length) * sizes.rowHeight) / 2;
}
