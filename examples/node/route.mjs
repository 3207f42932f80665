// Decides with a routewright bundle in Node: the same files, tokens, scores and choices as in Python.
//   node route.mjs BUNDLE [--point balanced] "a query"      one decision as JSON
//   node route.mjs BUNDLE --golden                          every golden vector; exit code 1 where one is missed
//   import { load } from "./route.mjs"                      (await load("bundle/")).decide(text, {point, candidates})
import { createHash } from "node:crypto"
import { readFileSync, realpathSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import ort from "onnxruntime-node"
import tokenizers from "tokenizers" // the library that Python uses: tokenizers written anew in JavaScript read some characters otherwise

const TOLERANCE = 1e-4
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex")

/** The files of a bundle, read once and verified: {described, files}. Throws by name where one is missing or changed. */
export function open(folder) {
  const raw = readFileSync(join(folder, "bundle.json"), "utf8")
  const described = JSON.parse(raw)
  const seal = described.sha256["bundle.json"] // of bundle.json with this field blank
  if (sha256(raw.replace(`"bundle.json": "${seal}"`, '"bundle.json": ""')) !== seal) throw new Error("bundle.json was changed after export")
  const { format, kind } = described
  if (format !== 2 || kind !== "router") throw new Error(`a ${kind} of format ${format}: expected a router of format 2`)
  const names = Object.keys(described.sha256).filter((name) => name !== "bundle.json")
  const files = Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name))]))
  for (const name of names) if (sha256(files[name]) !== described.sha256[name]) throw new Error(`${name} was changed after export`)
  return { described, files }
}

/** {described, score, decide}: score(text) is {tokens, quality[m], familiarity}, decide(text, {point, candidates}) a decision. */
export async function load(folder, { threads = 1 } = {}) {
  const { described, files } = open(folder)
  const { models, operating_points: points, policy, familiarity: known, fallback } = described
  const tokenizer = tokenizers.Tokenizer.fromString(files["tokenizer.json"].toString())
  const session = await ort.InferenceSession.create(files["router.onnx"], { intraOpNumThreads: threads })
  const counted = (model) => (policy.name === "threshold" ? Number(model.name === policy.strong) : (model.expected_usd ?? NaN))

  async function score(text) {
    if (!text.isWellFormed()) throw new Error("a query is not Unicode text: it has a lone surrogate") // silently replaced otherwise
    const ids = (await tokenizer.encode(text)).getIds() // cut at the bundle's own length
    const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length])
    const [some, mask] = ids.length ? [ids, ids.map(() => 1)] : [[0], [0]] // a text may hold no token, a tensor must have a column
    const found = await session.run({ input_ids: tensor(some), attention_mask: tensor(mask) })
    const quality = Array.from(found.quality.data)
    if (!quality.every(Number.isFinite)) throw new Error("the graph gives no finite scores")
    return { tokens: ids.length, quality, familiarity: known ? found.familiarity.data[0] : null }
  }

  /** Models by falling worth = quality - knob * cost, at a tie the cheaper one first; unlike all training data: the fallback first. */
  function rank({ quality, familiarity }, point, candidates) {
    if (!Object.hasOwn(points, point)) throw new Error(`no operating point ${point}: one of ${Object.keys(points)}`)
    const names = models.map((model) => model.name)
    if (candidates && (!candidates.length || candidates.some((name) => !names.includes(name))))
      throw new Error(`candidates [${candidates}]: some of ${names}`)
    const ranked = models
      .map((model, j) => ({ model: model.name, quality: quality[j], expected_usd: model.expected_usd, cost: counted(model) }))
      .map((row) => ({ ...row, worth: row.quality - points[point].knob * row.cost }))
      .filter((row) => !candidates || candidates.includes(row.model))
      .sort((a, b) => b.worth - a.worth || a.cost - b.cost)
    const strange = known !== null && familiarity < known.least
    const first = strange ? ranked.findIndex((row) => row.model === fallback) : -1
    if (first > 0) ranked.unshift(...ranked.splice(first, 1))
    const reason = first >= 0 ? "out of distribution" : "routed"
    return { ranked: ranked.map(({ cost, ...row }) => row), out_of_distribution: strange, reason }
  }

  async function decide(text, { point = "balanced", candidates } = {}) {
    const scored = await score(text)
    const found = rank(scored, point, candidates)
    const confidence = Math.min(Math.max(found.ranked[0].quality, 0), 1)
    const { tokens, familiarity } = scored
    return { model: found.ranked[0].model, ...found, point, confidence, familiarity, tokens, bundle: described.sha256["bundle.json"] }
  }
  return { described, score, rank, decide }
}

/** The largest difference to the golden scores, the texts with other tokens, and what is decided for each at every operating point. */
async function golden({ described, score, rank }) {
  const names = Object.keys(described.operating_points)
  const told = { texts: described.golden.length, worst: 0, other_tokens: [], decided: Object.fromEntries(names.map((name) => [name, []])) }
  for (const { text, tokens, quality } of described.golden) {
    const scored = await score(Array.isArray(text) ? text[0].repeat(text[1]) : text)
    if (scored.tokens !== tokens) told.other_tokens.push(text)
    told.worst = Math.max(told.worst, ...scored.quality.map((value, j) => Math.abs(value - quality[j])))
    for (const name of names) told.decided[name].push(rank(scored, name).ranked[0].model)
  }
  return { ...told, ok: told.worst <= TOLERANCE && !told.other_tokens.length }
}

async function main() {
  const options = { point: { type: "string", default: "balanced" }, golden: { type: "boolean", default: false } }
  const { values, positionals } = parseArgs({ options, allowPositionals: true })
  if (positionals.length !== (values.golden ? 1 : 2)) throw new Error('node route.mjs BUNDLE (--golden | [--point NAME] "a query")')
  const bundle = await load(positionals[0])
  const found = values.golden ? await golden(bundle) : await bundle.decide(positionals[1], { point: values.point })
  console.log(JSON.stringify(found))
  process.exitCode = found.ok === false ? 1 : 0
}

if (import.meta.url === pathToFileURL(realpathSync(process.argv[1] ?? ".")).href) {
  await main().catch((error) => {
    console.error(`route: ${error.message}`)
    process.exitCode = 2
  })
}
