// The console's script. It asks the agent's own routes every two seconds while somebody looks, turns counters into rates,
// and writes text only, never markup. The token is a variable of this page: in no storage, no address, no cookie.
'use strict';

const POLL = 2000, PATIENCE = 5000, KEPT = 60;
const $ = id => document.getElementById(id);
let token = '', isPaused = false, mayAsk = true, timer = 0;
/** Samples of /metrics, the newest last: { at: seconds, values: Map of name{labels} to number }. */
let samples = [];

// MARK: Words

const whole = new Intl.NumberFormat('en'), few = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const count = number => whole.format(number);
const rate = number => number >= 100 ? whole.format(Math.round(number)) : few.format(number);

function bytes(number) {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (number >= 1024 && unit < 4) { number /= 1024; unit++; }
  return few.format(number) + ' ' + units[unit];
}

function duration(seconds) {
  if (seconds < 0.001) return few.format(seconds * 1e6) + ' µs';
  if (seconds < 1) return few.format(seconds * 1e3) + ' ms';
  if (seconds < 120) return few.format(seconds) + ' s';
  if (seconds < 7200) return Math.floor(seconds / 60) + ' min';
  if (seconds < 172800) return Math.floor(seconds / 3600) + ' h';
  return Math.floor(seconds / 86400) + ' days';
}

const things = (number, one, many) => count(number) + ' ' + (number === 1 ? one : many || one + 's');

// MARK: Elements

function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** Sets text only where it changes, so that nothing that is being read aloud is taken away. */
function put(element, text) { if (element.textContent !== text) element.textContent = text; }

/** Fills a table's body. A cell is text, or { text, class, bar: 0…1 } or { nodes }; the first is the row's heading. */
function fill(table, rows) {
  const body = table.tBodies[0], heads = table.tHead.rows[0].cells;
  // On a small screen cells are laid out by themselves; then only their roles say that they are a table's.
  table.setAttribute('role', 'table');
  for (const group of [table.tHead, body]) group.setAttribute('role', 'rowgroup');
  table.tHead.rows[0].setAttribute('role', 'row');
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, y) => {
    const row = body.rows[y] || body.insertRow();
    row.setAttribute('role', 'row');
    cells.forEach((cell, x) => {
      let box = row.cells[x];
      if (!box) {
        box = make(x ? 'td' : 'th');
        box.setAttribute('role', x ? 'cell' : 'rowheader');
        if (x) box.dataset.label = heads[x].textContent; else box.scope = 'row';
        box.append(make('span'));
        row.append(box);
      }
      heads[x].setAttribute('role', 'columnheader');
      const { text, class: look = '', bar, nodes } = typeof cell === 'object' ? cell : { text: cell };
      box.className = [heads[x].className, look].join(' ').trim();
      if (nodes) { box.firstChild.replaceChildren(...nodes); return; }
      put(box.firstChild, text);
      if (bar === undefined) { if (box.children[1]) box.children[1].remove(); return; }
      if (!box.children[1]) box.append(make('span', { className: 'bar', ariaHidden: 'true' }));
      box.children[1].style.width = (100 * bar).toFixed(1) + '%';
    });
  });
  table.hidden = rows.length === 0;
}

/** Fills a list of terms and what they are. */
function facts(list, pairs, isGrouped) {
  const isSame = list.children.length === pairs.length * (isGrouped ? 1 : 2);
  if (!isSame) list.replaceChildren(...pairs.flatMap(() =>
    isGrouped ? [make('div', {}, make('dt'), make('dd'))] : [make('dt'), make('dd')]));
  const [terms, values] = [list.querySelectorAll('dt'), list.querySelectorAll('dd')];
  pairs.forEach(([term, value], index) => { put(terms[index], term); put(values[index], value); });
}

function say(element, text, isBad) {
  element.className = isBad ? 'word bad' : 'word';
  put(element, text);
}

// MARK: The agent

/** An answer, or words for a person about why there is none. */
async function ask(method, path, role, body) {
  const options = { method, headers: {}, cache: 'no-store', credentials: 'omit', redirect: 'error' };
  options.signal = AbortSignal.timeout(PATIENCE);
  if (token) options.headers.Authorization = 'Bearer ' + token;
  if (body !== undefined) { options.body = JSON.stringify(body); options.headers['Content-Type'] = 'application/json'; }
  let status = 0, text = '', json = null;
  try {
    const answer = await fetch(path, options);
    text = await answer.text();
    status = answer.status;
  } catch {
    return { status: 0, words: 'The agent does not answer. Is it running? On the device, gatehouse status tells more.' };
  }
  try { json = JSON.parse(text); } catch { /* /metrics is text */ }
  if (status < 300) return { status, text, json };
  let words = json && (json.detail || json.message || json.title) || 'The agent answered ' + status + '.';
  if (status === 401) words = token ? 'The agent does not know this token. Put in one with the role ' + role + '.'
    : 'This agent asks for a token. Put in one with the role ' + role + ', under Token above.';
  if (status === 403) words = 'The token has not the role ' + role + '.';
  return { status, text, json, words };
}

/** Reads the text format of Prometheus. */
function read(text) {
  const values = new Map();
  for (const line of text.split('\n')) {
    const end = line.lastIndexOf(' ');
    if (end > 0 && line[0] !== '#') values.set(line.slice(0, end), Number(line.slice(end + 1)));
  }
  return values;
}

/** Samples of one metric: [labels by name, value]. */
function family(values, name) {
  const found = [];
  for (const [key, value] of values) {
    if (!key.startsWith(name + '{')) continue;
    const labels = {};
    for (const [, label, text] of key.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g))
      labels[label] = text.replace(/\\(.)/g, (_, sign) => sign === 'n' ? '\n' : sign);
    found.push([labels, value]);
  }
  return found;
}

const newest = () => samples[samples.length - 1].values;
const get = name => newest().get(name) || 0;
const event = outcome => get('gatehouse_events_total{outcome="' + outcome + '"}');

/** How much some counters have gone up a second, over the last `seconds`. */
function speed(names, seconds = 10) {
  const last = samples[samples.length - 1];
  const first = samples.find(sample => sample.at >= last.at - seconds - 0.5) || last;
  const went = names.reduce((sum, name) => sum + (last.values.get(name) || 0) - (first.values.get(name) || 0), 0);
  return last.at > first.at ? Math.max(0, went / (last.at - first.at)) : 0;
}

/** The duration that a share of what was counted did not exceed; of the last minute where there was something in it. */
function quantiles(name) {
  const first = samples.find(sample => sample.at >= samples[samples.length - 1].at - 60).values, last = newest();
  const buckets = family(last, name + '_bucket'), before = family(first, name + '_bucket');
  const total = last.get(name + '_count') || 0, recent = total - (first.get(name + '_count') || 0);
  const of = share => {
    const part = recent || total;
    if (part === 0) return '–';
    const [labels] = buckets.find(([, value], index) => value - (recent ? before[index][1] : 0) >= share * part);
    return labels.le === '+Inf' ? 'over 8 s' : duration(Number(labels.le));
  };
  return [of(0.5), of(0.99), recent ? count(recent) + ' in a minute' : count(total) + ' in all'];
}

// MARK: What is shown

const ASIDE = 'gatehouse_quarantine_events';
const RECEIVED = 'gatehouse_events_total{outcome="received"}', ADMITTED = 'gatehouse_events_total{outcome="admitted"}';
const DECIDED = ['gatehouse_decisions_matched_total', 'gatehouse_decisions_default_total'];
const why = {
  TARGETING_MATCH: 'a rule matched', SPLIT: 'drawn by a split', STATIC: 'it has no condition', DEFAULT: 'no rule matched',
  DISABLED: 'switched off', NO_CONSENT: 'no consent for its purpose', CAPPED: 'served often enough',
  YIELDED: 'another had the place',
};

/** A line of how much counters went up a second, sample by sample. */
function draw(id, names, isGauge) {
  const points = [];
  for (let index = isGauge ? 0 : 1; index < samples.length; index++) {
    const [a, b] = [samples[index - 1], samples[index]];
    const sum = sample => names.reduce((total, name) => total + (sample.values.get(name) || 0), 0);
    points.push(isGauge ? sum(b) : Math.max(0, (sum(b) - sum(a)) / (b.at - a.at)));
  }
  const top = Math.max(1e-9, ...points), step = 120 / Math.max(14, points.length - 1);
  const place = (value, index) =>
    (120 - step * (points.length - 1 - index)).toFixed(1) + ',' + (21 - 19 * value / top).toFixed(1);
  $(id).lastChild.setAttribute('points', points.length > 1 ? points.map(place).join(' ') : '');
}

function layer(name, figure, unit, names, pairs, isGauge) {
  const place = $('r-' + name);
  if (!place.firstChild) place.append(make('b'), make('span'));
  put(place.firstChild, figure);
  put(place.lastChild, ' ' + unit);
  draw('s-' + name, names, isGauge);
  facts($('d-' + name), pairs);
}

function showLayers(destinations) {
  const sum = state => Object.values(destinations).reduce((total, states) => total + (states[state] || 0), 0);
  const delivered = Object.keys(destinations).map(deliveredTo);
  layer('collect', rate(speed([RECEIVED])), 'events a second', [RECEIVED], [
    ['received', count(event('received'))], ['sent twice', count(event('duplicate'))],
    ['not understood', count(event('refused'))], ['turned away', count(get('gatehouse_requests_shed_total'))]]);
  layer('govern', rate(speed([ADMITTED])), 'let in a second', [ADMITTED], [
    ['let in', count(event('admitted'))], ['no consent', count(event('denied'))],
    ['wait for a choice', count(event('waiting'))], ['set aside', count(event('quarantined'))]]);
  const people = 'gatehouse_profiles', refused = family(newest(), 'gatehouse_links_refused_total');
  layer('unify', count(get(people)), get(people) === 1 ? 'profile' : 'profiles', [people], [
    ['joined', count(get('gatehouse_identity_merges_total'))],
    ['links refused', count(refused.reduce((total, [, value]) => total + value, 0))],
    ['made room', count(get('gatehouse_profiles_evicted_total'))],
    ['time was up', count(get('gatehouse_purged_total{what="profiles"}'))]], true);
  layer('activate', rate(speed(DECIDED)), 'decisions a second', DECIDED, [
    ['by a rule', count(get(DECIDED[0]))], ['by default', count(get(DECIDED[1]))],
    ['no answer', count(get('gatehouse_decision_errors_total'))],
    ['triggers fired', count(get('gatehouse_triggers_total{outcome="fired"}'))]]);
  layer('deliver', rate(speed(delivered)), 'delivered a second', delivered, [
    ['delivered', count(sum('delivered'))], ['waiting', count(sum('queued'))], ['filtered', count(sum('filtered'))],
    ['lost', count(sum('expired') + sum('evicted'))]]);
  // The dots between the arches go the faster the more comes, and stand while nothing does.
  const flow = speed([RECEIVED, ...DECIDED]);
  $('house').style.setProperty('--flow', flow > 0 ? (1.6 / (1 + Math.log10(1 + flow))).toFixed(2) + 's' : '0s');
  $('no-events').hidden = event('received') > 0;
}

const labelled = (name, state) =>
  '{destination="' + name.replace(/[\\"]/g, '\\$&').replace(/\n/g, '\\n') + '",state="' + state + '"}';
const deliveredTo = name => 'gatehouse_destination_events' + labelled(name, 'delivered');

function showDecisions() {
  const found = family(newest(), 'gatehouse_decisions_total'), totals = {};
  for (const [labels, value] of found) totals[labels.decision] = (totals[labels.decision] || 0) + value;
  fill($('t-decisions'), found.map(([labels, value]) => {
    const bar = value / totals[labels.decision];
    return [labels.decision, labels.variant, why[labels.reason] || labels.reason, count(value),
      { text: few.format(100 * bar) + ' %', bar }];
  }));
  $('no-decisions').hidden = found.length > 0;
}

function showTime() {
  const taken = { decide: 'To answer a question', admit: 'To take an event', commit: 'To write it to the disk' };
  fill($('t-latency'), Object.keys(taken).map(name => [taken[name], ...quantiles('gatehouse_' + name + '_seconds')]));
  const rows = [];
  for (const kind of ['event', 'source']) {
    const byName = what => new Map(
      family(newest(), 'gatehouse_' + kind + '_' + what).map(([labels, value]) => [labels[kind], value]));
    const limits = byName('objective_seconds'), stale = byName('stale');
    for (const [name, age] of byName('age_seconds')) {
      rows.push([kind === 'source' ? 'source ' + name : name === '*' ? 'any other event' : name,
        age < 2 ? 'just now' : duration(age) + ' ago', limits.has(name) ? duration(limits.get(name)) : '–',
        stale.get(name) ? { text: 'too long ago', class: 'bad' } : limits.has(name) ? 'in time' : 'no limit']);
    }
  }
  fill($('t-fresh'), rows);
  $('no-fresh').hidden = rows.length > 0;
}

function showOutbox(destinations) {
  const sent = (name, what) => get('gatehouse_destination_' + what + '_total' + labelled(name, 'sent'));
  fill($('t-outbox'), Object.entries(destinations).map(([name, states]) => {
    const lost = state => ({ text: count(states[state] || 0), class: states[state] ? 'warn' : '' });
    const refused = states.rejected ? ' (' + count(states.rejected) + ' refused)' : '';
    return [name, rate(speed([deliveredTo(name)])), count(states.queued), count(states.delivered),
      count(states.filtered) + refused, lost('expired'), lost('evicted'), count(states.erased), count(states.admitted),
      count(sent(name, 'retries')), bytes(sent(name, 'bytes'))];
  }));
  $('no-outbox').hidden = Object.keys(destinations).length > 0;
  const used = get('gatehouse_store_used_bytes'), limit = get('gatehouse_store_limit_bytes'), share = 100 * used / limit;
  facts($('d-store'), [
    ['Store', bytes(used) + ' of ' + bytes(limit) + ', ' + (share < 0.1 ? 'under 0.1' : few.format(share)) + ' %'],
    ['Memory of its own', bytes(get('gatehouse_memory_bytes{of="anonymous"}'))],
    ['Pages of the store in memory', bytes(get('gatehouse_memory_bytes{of="file"}'))],
    ['Timers that wait', count(get('gatehouse_timers'))]], true);
  put($('q-count'), !get(ASIDE) ? 'Nothing is set aside.'
    : things(get(ASIDE), 'event is', 'events are') + ' set aside, not fitting the tracking plan.');
}

/** What somebody should look at, the gravest first: [how grave, words]. */
function troubles(ready, destinations) {
  const list = [];
  const bad = words => list.push(['bad', words]), warn = words => list.push(['warn', words]);
  for (const { problem, destination, advice, detail } of ready.json.problems)
    (ready.status === 200 ? warn : bad)(
      (destination ? destination + ': ' : '') + (advice || problem) + (detail ? ' (' + detail + ')' : ''));
  for (const [labels, isStale] of family(newest(), 'gatehouse_event_stale'))
    if (isStale) bad('No “' + labels.event + '” has come for longer than it should.');
  for (const [labels, isStale] of family(newest(), 'gatehouse_source_stale'))
    if (isStale) bad('Nothing has come from ' + labels.source + ' for longer than it should.');
  const span = samples[samples.length - 1].at - samples[0].at;
  for (const [name, states] of Object.entries(destinations)) {
    if (states.queued && span >= 20 && !speed([deliveredTo(name)], 60))
      warn(things(states.queued, 'event waits', 'events wait') + ' for ' + name + '; none was delivered lately.');
    if (states.rejected) warn(name + ' has refused ' + things(states.rejected, 'event') + '. The log says why.');
    const lost = (states.expired || 0) + (states.evicted || 0);
    if (lost) warn(things(lost, 'event') + ' never reached ' + name + ': the time was up, or the disk was full.');
  }
  if (get('gatehouse_store_used_bytes') > 0.9 * get('gatehouse_store_limit_bytes')) warn('The store is nearly full.');
  const aside = get(ASIDE);
  if (aside) warn(things(aside, 'event is', 'events are') + ' in quarantine: mend the plan and release, or delete.');
  if (speed(['gatehouse_requests_shed_total'], 60)) warn('More comes than the device can write: senders are told to wait.');
  return list;
}

function attend(list) {
  const items = list.length ? list : [['', 'Nothing. All is well.']], place = $('attention');
  // Numbers change all the time; what is read aloud is only what is new.
  const same = (text, other) => text.replace(/[\d,]+/g, '') === other.replace(/[\d,]+/g, '');
  while (place.children.length > items.length) place.lastChild.remove();
  items.forEach(([grave, words], index) => {
    const item = place.children[index] || place.appendChild(make('li'));
    if (item.className !== grave || !same(item.textContent, words)) { item.className = grave; put(item, words); }
  });
  document.title = list.length ? 'Gatehouse: ' + things(list.length, 'thing needs you', 'things need you') : 'Gatehouse';
}

function pill(words, look) {
  $('ready').className = 'pill ' + look;
  put($('ready'), words);
}

async function look() {
  const ready = await ask('GET', '/readyz');
  if (!ready.json) {
    pill('no answer', 'bad');
    return attend([['bad', ready.words || 'What answers here is no agent.']]);
  }
  const state = ready.json.status;
  const word = { fresh: 'ready', 'never-synced': 'no bundle', 'disk-full': 'disk full' }[state] || state;
  pill(word, state === 'fresh' ? '' : ready.status === 200 ? 'warn' : 'bad');
  put($('bundle'), ready.json.bundle ? 'bundle ' + ready.json.bundle : '');
  if (!mayAsk) return;
  const metrics = await ask('GET', '/metrics', 'operate');
  if (metrics.words) {
    // A refused token is not tried again and again.
    mayAsk = metrics.status !== 401 && metrics.status !== 403;
    if (!mayAsk) $('access').open = true;
    return attend([['bad', metrics.words]]);
  }
  const sample = { at: performance.now() / 1000, values: read(metrics.text) };
  // Counters that went down are those of an agent that has started again.
  const last = samples[samples.length - 1];
  if (last && sample.values.get('gatehouse_requests_total') < last.values.get('gatehouse_requests_total')) samples = [];
  samples.push(sample);
  if (samples.length > KEPT) samples.shift();
  const destinations = {};
  for (const [labels, value] of family(sample.values, 'gatehouse_destination_events'))
    (destinations[labels.destination] ||= {})[labels.state] = value;
  showLayers(destinations);
  showDecisions();
  showTime();
  showOutbox(destinations);
  attend(troubles(ready, destinations));
  put($('seen'), 'Last look ' + new Date().toLocaleTimeString() + '.');
}

/** One look after the other, none while nobody looks. */
async function poll() {
  clearTimeout(timer);
  timer = 0;
  if (document.hidden || isPaused) return;
  timer = -1;
  try { await look(); } finally { timer = setTimeout(poll, POLL); }
}

// MARK: Quarantine

let quarantined = [], lastShown = 0;
const pretty = json => JSON.stringify(json, null, 1);

function reason(what) {
  if (what.reason !== 'schema') return what.reason || 'it could not be delivered';
  return (what.pointer || 'The event') + ' does not fit the schema' + (what.keyword ? ' (' + what.keyword + ')' : '') + '.';
}

async function showQuarantine(isMore) {
  const answer = await ask('GET', '/v1/quarantine?limit=20&after=' + (isMore ? lastShown : 0), 'privacy');
  if (answer.words) return say($('q-word'), answer.words, true);
  const found = answer.json.quarantined;
  quarantined = isMore ? quarantined.concat(found) : found;
  lastShown = answer.json.last;
  fill($('t-quarantine'), quarantined.map(({ number, receivedAt, what }) => {
    const name = what.event && (what.event.event || what.event.type) || '–';
    const button = (words, method, path) => {
      const made = make('button', { type: 'button', ariaLabel: words + ' ' + number }, words);
      made.onclick = () => changeQuarantine(method, '/v1/quarantine/' + number + path);
      return made;
    };
    return [String(number), new Date(receivedAt).toLocaleString(),
      { nodes: [make('details', {}, make('summary', {}, name), make('pre', {}, pretty(what.event || what)))] },
      reason(what), { nodes: [button('Release', 'POST', '/release'), button('Delete', 'DELETE', '')] }];
  }));
  $('q-more').hidden = found.length < 20;
  $('q-all').hidden = quarantined.length === 0;
  put($('q-show'), 'Look again');
  if (!quarantined.length) say($('q-word'), 'Nothing is set aside.');
  else if (!isMore) say($('q-word'), things(quarantined.length, 'event is', 'events are') + ' shown below.');
}

async function changeQuarantine(method, path) {
  const answer = await ask(method, path, 'operate');
  // What does not fit even now is named one by one, under the status 409.
  if (answer.words && !(answer.json && answer.json.kept)) return say($('q-word'), answer.words, true);
  const { released, deleted, kept = [] } = answer.json;
  await showQuarantine(false);
  const rest = kept.length ? ', ' + count(kept.length) + ' kept: ' + kept[0].message : '';
  const done = deleted !== undefined ? things(deleted, 'event') + ' deleted' : things(released, 'event') + ' released';
  say($('q-word'), done + rest + '.', kept.length > 0);
  $('q-show').focus();
}

// MARK: A person

let person = '';
const route = part => '/v1/profiles/' + encodeURIComponent(person) + (part || '');

function forgetRecord() {
  $('p-record').hidden = $('p-rights').hidden = true;
  fill($('t-attributes'), []);
  facts($('p-facts'), [], true);
  $('p-purposes').replaceChildren();
  put($('p-name'), '');
}

function shown(value) {
  if (Array.isArray(value)) return value.map(shown).join(', ') || '–';
  if (value === null) return '–';
  if (typeof value === 'object') return Object.keys(value).map(key => key + ': ' + shown(value[key])).join(', ') || '–';
  if (typeof value === 'number') return value.toLocaleString('en', { maximumFractionDigits: 4 });
  return value === true ? 'yes' : value === false ? 'no' : value;
}

async function showPerson(words) {
  forgetRecord();
  say($('p-word'), '');
  const asked = person, answer = await ask('GET', route(), 'privacy');
  // Somebody else was asked for meanwhile: nobody is to be changed by the look of another.
  if (person !== asked) return;
  if (answer.words) {
    // Of somebody who is not known something may be set aside all the same.
    $('p-rights').hidden = answer.status !== 404 || !person.includes(':');
    return say($('p-word'), answer.words, true);
  }
  const record = answer.json;
  put($('p-name'), 'Profile ' + record.id);
  fill($('t-attributes'), Object.entries(record.attributes || {}).map(([name, value]) => [name, shown(value)]));
  $('no-attributes').hidden = !$('t-attributes').hidden;
  const names = record.identifiers.map(one => one.kind + ' ' + (one.hmac || '').slice(0, 8) + '…');
  const pairs = [['Known by', shown(names)], ['Audiences', shown(record.audiences)]];
  if (record.scores) pairs.push(['Scores', shown(record.scores)]);
  if (record.links.length) pairs.push(['Links', things(record.links.length, 'link') + ' between identifiers']);
  if (record.incomplete) pairs.push(['Not counted from the start', shown(record.incomplete)]);
  facts($('p-facts'), pairs, true);
  $('p-purposes').replaceChildren(...Object.entries(record.consent).map(([purpose, isGranted]) => {
    const box = make('input', { type: 'checkbox', name: purpose, checked: isGranted, defaultChecked: isGranted });
    return make('label', {}, box, purpose);
  }));
  $('p-record').hidden = $('p-rights').hidden = false;
  say($('p-word'), words || 'The record is shown below.');
  $('p-name').focus();
}

async function saveConsent() {
  const choice = {};
  for (const box of $('p-purposes').querySelectorAll('input'))
    if (box.checked !== box.defaultChecked) choice[box.name] = box.checked;
  if (!Object.keys(choice).length) return say($('p-word'), 'Nothing was changed.');
  const answer = await ask('PUT', route('/consent'), 'privacy', choice);
  if (answer.words) return say($('p-word'), answer.words, true);
  await showPerson('The choice is saved.');
}

async function saveCopy() {
  const pages = [];
  for (let after = ''; ;) {
    const answer = await ask('GET', route('/export' + after), 'privacy');
    if (answer.words) return say($('p-word'), answer.words, true);
    pages.push(answer.json);
    if (answer.json.after === undefined) break;
    after = '?after=' + answer.json.after;
  }
  const copy = new Blob([pretty(pages.length === 1 ? pages[0] : pages)], { type: 'application/json' });
  const address = URL.createObjectURL(copy);
  make('a', { href: address, download: 'person.json' }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
  say($('p-word'), 'The copy is saved as person.json. Give it to nobody but the person.');
}

async function erase() {
  const answer = await ask('DELETE', route(), 'privacy');
  if (answer.words) return say($('p-word'), answer.words, true);
  forgetRecord();
  $('p-ref').value = person = '';
  $('p-ref').focus();
  follow(answer.json);
}

/** Says how far an erasure is, until it is done. */
async function follow({ receipt, state }) {
  say($('p-word'), (state === 'erased' ? 'Erased. ' : 'Erased here; ' + state + '. ') + 'Receipt ' + receipt);
  if (state === 'erased' || person) return;
  await new Promise(done => setTimeout(done, POLL));
  const answer = person ? {} : await ask('GET', '/v1/erasures/' + receipt, 'privacy');
  if (answer.json && !answer.words && !person) follow(answer.json);
}

// MARK: Doors

/** A form sends nothing by itself: what is written in it would be in an address. */
function onSubmit(id, action) { $(id).addEventListener('submit', happened => { happened.preventDefault(); action(); }); }

/** A button does not begin again what is under way. */
function onClick(id, action) {
  $(id).addEventListener('click', async () => {
    if ($(id).hasAttribute('aria-busy')) return;
    $(id).setAttribute('aria-busy', 'true');
    try { await action(); } finally { $(id).removeAttribute('aria-busy'); }
  });
}

function useToken(text) {
  // Nothing else can be in a header.
  token = text.replace(/[^!-~]/g, '');
  $('token').value = '';
  $('forget').hidden = !token;
  put($('access').querySelector('summary'), token ? 'Token in use' : 'Token');
  $('access').open = false;
  $('access').querySelector('summary').focus();
  mayAsk = true;
  samples = [];
  person = '';
  forgetRecord();
  say($('p-word'), '');
  say($('q-word'), '');
  fill($('t-quarantine'), []);
  $('q-all').hidden = $('q-more').hidden = true;
  if (timer !== -1) poll();
}

onSubmit('token-form', () => useToken($('token').value));
onClick('forget', () => useToken(''));
onClick('pause', () => {
  isPaused = !isPaused;
  $('pause').setAttribute('aria-pressed', String(isPaused));
  if (!isPaused && timer !== -1) poll();
});
onClick('q-show', () => showQuarantine(false));
onClick('q-more', () => showQuarantine(true));
onClick('q-all', () => changeQuarantine('POST', '/v1/quarantine/all/release'));
onSubmit('p-form', () => { person = $('p-ref').value.trim(); if (person) showPerson(); });
onSubmit('p-consent', saveConsent);
onClick('p-copy', saveCopy);
onClick('p-erase', () => {
  put($('sure-title'), 'Erase ' + person + '?');
  $('sure').returnValue = '';
  $('sure').showModal();
});
$('sure').addEventListener('close', () => {
  put($('sure-title'), 'Erase this person?');
  if ($('sure').returnValue === 'yes') erase();
});
$('access').addEventListener('keydown', pressed => {
  if (pressed.key === 'Escape') { $('access').open = false; $('access').querySelector('summary').focus(); }
});
document.addEventListener('visibilitychange', () => { if (timer !== -1) poll(); });

put($('try-event'), `curl ${location.origin}/v1/track -d '{"userId": "ada", "event": "Order Completed",\n`
  + '  "properties": {"order_id": "1", "revenue": 120},\n'
  + '  "context": {"consent": {"categoryPreferences": {"analytics": true, "personalization": true}}}}\'');
put($('try-decision'), `curl ${location.origin}/ofrep/v1/evaluate/flags -d '{"context": {"targetingKey": "ada"}}'`);
poll();
