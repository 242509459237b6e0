/** The world as MapLibre draws it, loaded only where it is looked at: land, and hexagons on it. It asks nobody for anything. */
import { cellToBoundary } from "h3-js";
import type { FeatureCollection, Polygon } from "geojson";
import { Map as Drawn, setWorkerUrl, type ExpressionSpecification, type FilterSpecification, type GeoJSONSource, type StyleSpecification } from "maplibre-gl";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?url";
import { feature } from "topojson-client";
import type { GeometryCollection, Topology } from "topojson-specification";
import world from "world-atlas/land-110m.json";

import type { Cell } from "../lib/api";

export interface Look {
  ground: string;
  land: string;
  ink: string;
  /** From nothing sold to all of it. */
  shades: readonly [string, string];
}

/** Degrees of the middle, and how near the reader is. */
export interface View {
  north: number;
  east: number;
  zoom: number;
}

export interface World {
  show(cells: readonly Cell[]): void;
  paint(look: Look): void;
  choose(cell: string | undefined): void;
  zoom(by: number): void;
  goTo(cell: string): void;
  remove(): void;
}

/** No other script may become a worker of this page: the policy is named by the page's headers. */
function allowWorker(): void {
  const types = (globalThis as { trustedTypes?: { defaultPolicy: unknown; createPolicy(name: string, rules: object): unknown } }).trustedTypes;
  if (!types || types.defaultPolicy) return;
  const own = new URL(workerUrl, location.href).href;
  types.createPolicy("default", { createScriptURL: (url: string) => (new URL(url, location.href).href === own ? url : null) });
}

const ZOOM_MAX = 7;
/** How wide the world is at zoom 0. */
const WORLD_PX = 512;

/** Fills `into`. `chosen` is told which cell was clicked, `moved` where the reader looks now. Throws where there is no WebGL. */
export function draw(into: HTMLElement, look: Look, chosen: (cell: string) => void, moved: (view: View) => void): World {
  allowWorker();
  setWorkerUrl(workerUrl);
  const map = new Drawn({
    container: into,
    style: style(look),
    center: [10, 25],
    zoom: Math.log2(into.clientWidth / WORLD_PX), // the whole of it, from east to west
    minZoom: -1,
    maxZoom: ZOOM_MAX,
    attributionControl: false,
    renderWorldCopies: false,
    dragRotate: false,
    pitchWithRotate: false,
    fadeDuration: 0,
  });
  map.touchZoomRotate.disableRotation();
  map.keyboard.disableRotation();
  map.getCanvas().tabIndex = -1; // the list beside it is for the keyboard
  /** Where the last click of a row of them leads. */
  let aim = map.getZoom();
  let loaded = false;
  const waiting: (() => void)[] = [];
  const ready = (what: () => void): void => void (loaded ? what() : waiting.push(what));
  map.on("load", () => {
    loaded = true;
    for (const what of waiting.splice(0)) what();
    into.dataset["drawn"] = "yes";
  });
  map.on("moveend", () => {
    const { lat: north, lng: east } = map.getCenter();
    aim = map.getZoom();
    moved({ north, east, zoom: aim });
  });
  map.on("click", "cells", (event) => {
    const cell: unknown = event.features?.[0]?.properties["cell"];
    if (typeof cell === "string") chosen(cell);
  });
  return {
    show(found) {
      ready(() => map.getSource<GeoJSONSource>("cells")?.setData(features(found)));
      into.dataset["cells"] = String(found.length);
    },
    paint: (next) => ready(() => repaint(map, next)),
    choose: (cell) => ready(() => map.setFilter("chosen", chosenIs(cell ?? ""))),
    zoom(by) {
      aim = Math.min(ZOOM_MAX, aim + by);
      map.easeTo({ zoom: aim, duration: 150 });
    },
    goTo(cell) {
      const [first] = cellToBoundary(cell, true);
      if (first) map.easeTo({ center: [first[0] ?? 0, first[1] ?? 0], duration: 150 });
    },
    remove: () => map.remove(),
  };
}

function features(cells: readonly Cell[]): FeatureCollection<Polygon> {
  return {
    type: "FeatureCollection",
    // Small cells come last and lie on top of those that hold what is left around them.
    features: [...cells]
      .sort((one, other) => one.cell.localeCompare(other.cell))
      .map((one) => ({
        type: "Feature",
        properties: { cell: one.cell, share: one.cpu_milli ? one.sold_milli / one.cpu_milli : 0 },
        geometry: { type: "Polygon", coordinates: [ring(one.cell)] },
      })),
  };
}

type Ring = number[][];
const ROUND = 360;
const POLE = 85.05;

const ring = (cell: string): Ring => unrolled(cellToBoundary(cell, true));

/** The same ring without a jump where it crosses the 180th meridian; one around a pole is closed along the map's edge. */
function unrolled(corners: Ring): Ring {
  let turns = 0;
  let before = corners[0]?.[0] ?? 0;
  const flat = corners.map(([east = 0, north = 0]) => {
    turns -= Math.round((east - before) / ROUND);
    before = east;
    return [east + turns * ROUND, north];
  });
  const [first, last] = [flat[0], flat.at(-1)];
  if (!turns || !first || !last) return centred(flat);
  const edge = Math.sign(first[1] ?? 0) * POLE;
  return [...flat, [last[0] ?? 0, edge], [first[0] ?? 0, edge], first];
}

/** Most of it between the edges of the map, wherever it began: a lake stays in its land. */
function centred(flat: Ring): Ring {
  const easts = flat.map(([east = 0]) => east);
  const shift = ROUND * Math.round((Math.min(...easts) + Math.max(...easts)) / 2 / ROUND);
  return flat.map(([east = 0, north = 0]) => [east - shift, north]);
}

function land(): FeatureCollection {
  const { land: shape } = (world as unknown as Topology<{ land: GeometryCollection }>).objects;
  const whole: FeatureCollection = feature(world as unknown as Topology, shape);
  const shapes = whole.features.flatMap(({ geometry }) => (geometry.type === "MultiPolygon" ? geometry.coordinates : []));
  return {
    type: "FeatureCollection",
    features: shapes.map((rings) => ({ type: "Feature", properties: {}, geometry: { type: "Polygon", coordinates: rings.map(unrolled) } })),
  };
}

const chosenIs = (cell: string): FilterSpecification => ["==", ["get", "cell"], cell];
const shaded = ({ shades }: Look): ExpressionSpecification => ["interpolate", ["linear"], ["get", "share"], 0, shades[0], 1, shades[1]];

function style(look: Look): StyleSpecification {
  return {
    version: 8,
    sources: {
      land: { type: "geojson", data: land() },
      cells: { type: "geojson", data: { type: "FeatureCollection", features: [] }, tolerance: 0 },
    },
    layers: [
      { id: "ground", type: "background", paint: { "background-color": look.ground } },
      { id: "land", type: "fill", source: "land", paint: { "fill-color": look.land } },
      { id: "cells", type: "fill", source: "cells", paint: { "fill-color": shaded(look), "fill-opacity": 0.9 } },
      { id: "edges", type: "line", source: "cells", paint: { "line-color": look.ground, "line-width": 1 } },
      { id: "chosen", type: "line", source: "cells", filter: chosenIs(""), paint: { "line-color": look.ink, "line-width": 3 } },
    ],
  };
}

function repaint(map: Drawn, look: Look): void {
  map.setPaintProperty("ground", "background-color", look.ground);
  map.setPaintProperty("land", "fill-color", look.land);
  map.setPaintProperty("cells", "fill-color", shaded(look));
  map.setPaintProperty("edges", "line-color", look.ground);
  map.setPaintProperty("chosen", "line-color", look.ink);
}
