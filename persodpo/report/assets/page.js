// The reader of examples: searches, filters, sorts and shows the prompts of the page's data
// (persodpo/report/page.py describes them). The form's controls are the whole state, but for the
// page of the list; both are kept in the location's hash, so that a link leads to the same view.
// All texts of the data become text nodes: they are models' answers and must never be markup.

'use strict';

const PAGE_SIZE = 25;
const ANCHOR = '#examples';

const data = JSON.parse(byId('examples-data').textContent);
const form = byId('controls');
const defaults = readControls();
const haystacks = data.prompts.map(haystack);
// prompts that the reader has open stay open while the list around them changes
const openIds = new Set();
let found = [];
let pageNumber = 1;

function byId(id) {
  return document.getElementById(id);
}

/** A new element with its class and its children, which are elements or texts. */
function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// What is shown: from the controls to a list of {prompt, value}

/** The controls as {name: text}. */
function readControls() {
  return Object.fromEntries(new FormData(form));
}

/** All texts of a prompt in small letters; the line breaks keep words of two texts apart. */
function haystack(prompt) {
  const answers = prompt.answers.map((answer) => answer.text);
  const texts = [...prompt.persona, ...prompt.turns, prompt.golden_answer, ...answers];
  return texts.join('\n').toLowerCase();
}

/** A's value of the measure, or A's minus B's; null where one of them is missing. */
function valueOf(prompt, controls) {
  const measure = data.measures.findIndex(({ key }) => key === controls.measure);
  const ofCandidate = (name) => prompt.answers[data.candidates.indexOf(name)].values[measure];
  const a = ofCandidate(controls.a);
  if (controls.b === '') return a;
  const b = ofCandidate(controls.b);
  if (a === null || b === null) return null;
  // 0.3 - 0.1 is to be 0.2, not a trace below it and outside of "at least 0.2"
  return Math.round((a - b) * 1e9) / 1e9;
}

function isWithin(value, { min, max }) {
  if (min === '' && max === '') return true;
  if (value === null) return false;
  return (min === '' || value >= Number(min)) && (max === '' || value <= Number(max));
}

function hasState(prompt, { a, state }) {
  const isValid = prompt.answers[data.candidates.indexOf(a)].contract === 'valid';
  return state === 'all' || isValid === (state === 'valid');
}

/** How two entries compare; without a value they come last, and ties keep their order. */
function compare(first, second, order) {
  const missing = (first.value === null) - (second.value === null);
  const difference = first.value - second.value;
  return missing || (order === 'lowest' ? difference : -difference);
}

function find(controls) {
  const words = controls.q.toLowerCase().split(/\s+/);
  const entries = data.prompts
    .filter((_, i) => words.every((word) => haystacks[i].includes(word)))
    .filter((prompt) => hasState(prompt, controls))
    .map((prompt) => ({ prompt, value: valueOf(prompt, controls) }))
    .filter(({ value }) => isWithin(value, controls));
  if (controls.order === 'sampled') return entries;
  return entries.sort((first, second) => compare(first, second, controls.order));
}

// The list

/** A number for reading; a difference has its sign. */
function numberText(value, measure, isDifference = false) {
  if (value === null) return 'n/a';
  const text = Math.abs(value).toFixed(measure === 'words' ? 0 : 3);
  if (Number(text) === 0) return text;
  if (value < 0) return `−${text}`;
  return isDifference ? `+${text}` : text;
}

function meaningOf({ measure, a, b }) {
  const { label } = data.measures.find(({ key }) => key === measure);
  return b === '' ? `Value: ${label} of ${a}` : `Value: ${label} of ${a} minus that of ${b}`;
}

function resultItem({ prompt, value }, controls) {
  const details = element('details', '');
  const shown = numberText(value, controls.measure, controls.b !== '');
  const lastTurn = element('span', 'turn', prompt.turns.at(-1));
  lastTurn.dir = 'auto';
  details.append(
    element(
      'summary',
      '',
      element('span', 'id', prompt.id),
      lastTurn,
      element('span', 'value', shown),
    ),
  );
  // the texts of one prompt are many elements, so they are made when they are wanted
  const fill = () => {
    if (details.children.length === 1) details.append(example(prompt, controls));
  };
  if (openIds.has(prompt.id)) {
    details.open = true;
    fill();
  }
  details.addEventListener('toggle', () => {
    if (details.open) {
      openIds.add(prompt.id);
      fill();
    } else {
      openIds.delete(prompt.id);
    }
  });
  return element('li', '', details);
}

function showList() {
  const controls = readControls();
  const pages = Math.max(1, Math.ceil(found.length / PAGE_SIZE));
  pageNumber = Math.min(pageNumber, pages);
  const start = (pageNumber - 1) * PAGE_SIZE;
  const items = found
    .slice(start, start + PAGE_SIZE)
    .map((entry) => resultItem(entry, controls));
  if (items.length === 0) {
    items.push(element('li', 'nothing', 'No prompt fits. Loosen the search, or reset it.'));
  }
  byId('results').replaceChildren(...items);
  byId('page-number').textContent = `Page ${pageNumber} of ${pages}`;
  byId('previous').disabled = pageNumber === 1;
  byId('next').disabled = pageNumber === pages;
}

// One example

function example(prompt, controls) {
  return element(
    'div',
    'example',
    element(
      'div',
      'context',
      part(`Persona of ${prompt.persona_of}`, textList('ul', '', prompt.persona)),
      part('Dialogue', dialogue(prompt.turns)),
      part('Golden answer', text('p', 'answer', prompt.golden_answer)),
    ),
    part('Answers', answers(prompt, controls)),
  );
}

function part(title, content) {
  return element('section', '', element('h3', '', title), content);
}

/** An element with one text of the data, in whichever direction its script runs. */
function text(tag, className, content) {
  const made = element(tag, className, content);
  made.dir = 'auto';
  return made;
}

function textList(tag, className, texts) {
  return element(tag, className, ...texts.map((content) => text('li', '', content)));
}

function dialogue(turns) {
  const items = turns.map((turn, i) =>
    element('li', '', element('b', '', i % 2 ? 'User2' : 'User1'), text('span', '', turn)),
  );
  return element('ol', 'dialogue', ...items);
}

/** The candidates' answers: A's and B's first, and the others as they are listed. */
function answers(prompt, { a, b }) {
  const chosen = [...new Set([a, b])].filter((name) => name !== '');
  const others = data.candidates.filter((name) => !chosen.includes(name));
  const cards = [...chosen, ...others].map((name) => {
    const marks = [name === a && 'A', name === b && 'B'].filter(Boolean);
    return card(name, prompt.answers[data.candidates.indexOf(name)], marks);
  });
  return element('ul', 'cards', ...cards);
}

function card(name, answer, marks) {
  const isValid = answer.contract === 'valid';
  const badges = marks.map((mark) => element('span', 'mark', mark));
  const result = { valid: 'valid', salvaged: 'failed: salvaged', none: 'failed: no answer' };
  const contract = element('span', 'contract', result[answer.contract]);
  const made = element(
    'li',
    isValid ? 'card' : 'card failed',
    element('h4', '', ...badges, element('span', 'name', name), contract),
    text('p', 'answer', answer.text),
    numbers(answer.values),
  );
  if (marks.length > 0) made.classList.add('chosen');
  return made;
}

function numbers(values) {
  const pairs = data.measures.map(({ key, label }, i) =>
    element('div', '', element('dt', '', label), element('dd', '', numberText(values[i], key))),
  );
  return element('dl', 'numbers', ...pairs);
}

// Controls and location

function update() {
  const controls = readControls();
  found = find(controls);
  byId('count').textContent = `${found.length} of ${data.prompts.length} prompts`;
  byId('meaning').textContent = meaningOf(controls);
  showList();
}

/** Put what differs from the default into the hash; the list of pages visited stays as it is. */
function writeHash() {
  const changed = Object.entries(readControls()).filter(([name, value]) => value !== defaults[name]);
  if (pageNumber > 1) changed.push(['page', String(pageNumber)]);
  const query = new URLSearchParams(changed).toString();
  history.replaceState(null, '', query ? `${ANCHOR}?${query}` : ANCHOR);
}

/** Set the controls by the hash; what it names wrongly gets its default. */
function readHash() {
  const [anchor, query] = location.hash.split('?');
  if (anchor !== ANCHOR || query === undefined) return; // one of the page's other anchors
  const wanted = new URLSearchParams(query);
  form.reset();
  for (const name of Object.keys(defaults)) {
    if (wanted.has(name)) form.elements.namedItem(name).value = wanted.get(name);
  }
  for (const select of form.querySelectorAll('select')) {
    if (select.selectedIndex === -1) select.value = defaults[select.name];
  }
  pageNumber = Math.max(1, Math.floor(Number(wanted.get('page'))) || 1);
  update();
  byId('examples').scrollIntoView();
}

function controlsChanged() {
  pageNumber = 1;
  update();
  writeHash();
}

/** The button that was pressed is below the list, so the focus goes on at the list's start. */
function turnPage(step) {
  pageNumber += step;
  showList();
  writeHash();
  const results = byId('results');
  results.focus({ preventScroll: true });
  results.scrollIntoView();
}

form.addEventListener('input', controlsChanged);
form.addEventListener('submit', (event) => event.preventDefault());
byId('restart').addEventListener('click', () => {
  form.reset();
  controlsChanged();
});
byId('previous').addEventListener('click', () => turnPage(-1));
byId('next').addEventListener('click', () => turnPage(1));
window.addEventListener('hashchange', readHash);
byId('reader').hidden = false;
update();
readHash();
