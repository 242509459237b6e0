import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// What comes out is committed (ADR 46): names hold hashes of contents, nothing is inlined, since the pages allow no inline code.
export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: "../src/fallow/web",
    emptyOutDir: true,
    target: "es2023",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    license: { fileName: "licenses.md" },
  },
  server: { proxy: { "/v1": process.env.FALLOW_URL ?? "http://127.0.0.1:8080" } },
});
