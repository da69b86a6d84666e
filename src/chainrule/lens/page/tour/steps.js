/**
 * The steps of the tour, in order. A step is a file of steps/ that exports `{name, line, title, prepare}`: its name in the
 * address, the statements of the lecture that it shows, its title, and `prepare(subject)`, which gives (or promises)
 *
 *     {at: {view, id, query, show}, formula, says, table, question, absent}
 *
 * `at`: where on the page, and (`show`) which part of the view is framed; `question`: see question.js; `absent`: a sentence where
 * this network has no such node. With it the step shows an example, or, without a question, is left out. Numbers come from the
 * subject (subject.js), nodes are found by finding.js, choices are put in order by choices.js.
 */

import { step as addition } from "./steps/addition.js";
import { step as chain } from "./steps/chain.js";
import { step as convolution } from "./steps/convolution.js";
import { step as convolutionToInput } from "./steps/convolution_to_input.js";
import { step as convolutionToWeight } from "./steps/convolution_to_weight.js";
import { step as deadUnit } from "./steps/dead_unit.js";
import { step as example } from "./steps/example.js";
import { step as fanOut } from "./steps/fan_out.js";
import { step as fullyConnected } from "./steps/fully_connected.js";
import { step as graph } from "./steps/graph.js";
import { step as multiplication } from "./steps/multiplication.js";
import { step as padding } from "./steps/padding.js";
import { step as receptiveField } from "./steps/receptive_field.js";
import { step as relu } from "./steps/relu.js";
import { step as routing } from "./steps/routing.js";
import { step as sgd } from "./steps/sgd.js";
import { step as templates } from "./steps/templates.js";
import { step as variants } from "./steps/variants.js";

export const STEPS = [
  graph,
  example,
  chain,
  addition,
  multiplication,
  routing,
  fanOut,
  relu,
  deadUnit,
  sgd,
  fullyConnected,
  templates,
  convolution,
  receptiveField,
  padding,
  variants,
  convolutionToWeight,
  convolutionToInput,
];
