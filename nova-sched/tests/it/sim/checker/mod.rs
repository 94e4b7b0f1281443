//! A second account of a simulation, by somebody who knows only the text of the log, the cluster
//! and the scenario as they are written down, and the rows of the trace.
//!
//! Nothing of the simulation's own code is used: every line is taken by its words, every sum is
//! added up anew, and what comes out is compared with the report.

mod cloud;
mod looks;
mod machines;
mod uses;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use cloud::{Cloud, Line};
use looks::MEASURED;
use machines::whole;

pub(crate) use cloud::Row;
pub(crate) use uses::Given;
use uses::Uses;

/// Whether the log breaks no rule, and the report is what follows from it.
pub(crate) fn check(
    cluster: &Value,
    scenario: &Value,
    rows: &[Row],
    given: Option<&Given>,
    log: &str,
    report: &Value,
) -> Result<(), String> {
    let lines: Vec<Line> = log
        .lines()
        .map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}")))
        .collect::<Result<_, String>>()?;
    let cloud = Cloud::new(cluster, scenario, rows);
    let uses = Uses::new(scenario, given, &cloud, rows);
    let mut account = Account::new(cloud, uses, scenario);
    let is_arrival = |line: &Line| line.what == "arrived";
    let first = lines.iter().position(is_arrival).unwrap_or(lines.len());
    let until = scenario["measure_until_s"].as_u64().map(|until_s| until_s * 1000);
    let mut cut = end_of_measuring(&lines, scenario);
    if let Some(until) = until {
        // Later than the last arrival it ends when all of that moment has happened.
        let last = lines[..cut].iter().rfind(|line| line.what == "arrived").map(|line| line.t);
        if last.is_some_and(|last| until > last) {
            cut = lines.iter().position(|line| line.t > until).unwrap_or(lines.len());
        }
    }
    for (at, line) in lines.iter().enumerate() {
        let fault = |why| format!("line {}: {why}: {}", at + 1, log.lines().nth(at).unwrap_or(""));
        if at == first {
            account.begin(line.t);
        }
        if at == cut {
            account.end(until);
        }
        account.go_on(line.t);
        account.cloud.happen(line).map_err(fault)?;
        account.uses.happen(&mut account.cloud, line).map_err(fault)?;
        account.look();
    }
    if cut == lines.len() {
        account.end(until);
    }
    account.cloud.ended()?;
    distributed(&account.cloud.waits, &report["waited_ms"])?;
    let expected = account.report(&lines);
    agree("report", &expected, report)
}

/// Measuring ends when the last VM has come and everything that it brings about at once has
/// happened.
fn end_of_measuring(lines: &[Line], scenario: &Value) -> usize {
    let Some(last) = lines.iter().rposition(|line| line.what == "arrived") else {
        return lines.len();
    };
    let at_once = |line: &&Line| {
        let why = line.why.as_deref();
        // Several schedulers decide later, even where that takes no time.
        scenario["schedulers"].is_null()
            && line.t == lines[last].t
            && match line.what.as_str() {
                "placed" | "waits" => true,
                "put_off" => why == Some("preemption"),
                "refused" => matches!(why, Some("no_host" | "gang")),
                _ => false,
            }
    };
    last + 1 + lines[last + 1..].iter().take_while(at_once).count()
}

/// The cloud, and what is added up while it changes.
struct Account {
    cloud: Cloud,
    uses: Uses,
    every_ms: u64,
    switches_off: bool,
    /// From the first arrival to the last.
    measuring: bool,
    began: u64,
    now: u64,
    next_sample: u64,
    samples: Vec<Value>,
    sums: [u128; 11],
    peaks: [u64; 11],
    /// What it was when measuring ended.
    at_end: [u64; 11],
    millis: u64,
}

impl Account {
    fn new(cloud: Cloud, uses: Uses, scenario: &Value) -> Self {
        Self {
            cloud,
            uses,
            every_ms: scenario["sample_every_s"].as_u64().unwrap() * 1000,
            switches_off: scenario["switch_off_empty_hosts"] == true,
            measuring: false,
            began: 0,
            now: 0,
            next_sample: 0,
            samples: Vec::new(),
            sums: [0; 11],
            peaks: [0; 11],
            at_end: [0; 11],
            millis: 0,
        }
    }

    fn begin(&mut self, at: u64) {
        (self.measuring, self.began, self.now) = (true, at, at);
        self.peaks = looks::measured(&self.cloud, self.switches_off);
        self.samples.push(looks::sample(&self.cloud, &self.uses, at, self.switches_off));
        self.next_sample = at + self.every_ms;
    }

    /// Time goes on to this moment.
    fn go_on(&mut self, until: u64) {
        if !self.measuring {
            return;
        }
        while self.next_sample <= until {
            let sample =
                looks::sample(&self.cloud, &self.uses, self.next_sample, self.switches_off);
            self.samples.push(sample);
            self.next_sample += self.every_ms;
        }
        let values = looks::measured(&self.cloud, self.switches_off);
        for (sum, value) in self.sums.iter_mut().zip(values) {
            *sum += u128::from(value) * u128::from(until - self.now);
        }
        self.uses.pass(&self.cloud, until - self.now);
        self.now = until;
    }

    /// Looks at what a line has changed.
    fn look(&mut self) {
        if self.measuring {
            let values = looks::measured(&self.cloud, self.switches_off);
            self.peaks = std::array::from_fn(|at| self.peaks[at].max(values[at]));
            self.uses.look(&self.cloud);
        }
    }

    fn end(&mut self, until: Option<u64>) {
        self.go_on(until.unwrap_or(0).max(self.now));
        self.at_end = looks::measured(&self.cloud, self.switches_off);
        self.samples.push(looks::sample(&self.cloud, &self.uses, self.now, self.switches_off));
        self.uses.end(&self.cloud);
        self.millis = self.now - self.began;
        self.measuring = false;
    }

    fn at(name: &str) -> usize {
        MEASURED.iter().position(|known| *known == name).unwrap()
    }

    fn peak(&self, name: &str) -> u64 {
        self.peaks[Self::at(name)]
    }

    fn mean(&self, name: &str) -> f64 {
        let at = Self::at(name);
        match self.millis {
            0 => self.at_end[at] as f64,
            millis => self.sums[at] as f64 / millis as f64,
        }
    }

    fn usage(&self, name: &str, kind: usize) -> Value {
        let capacity: f64 = self.cloud.hosts.iter().map(|host| host.machine.holds[kind]).sum();
        let share = |amount: f64| if capacity > 0.0 { amount / capacity } else { 0.0 };
        let (peak, mean) = (self.peak(name), self.mean(name));
        json!({
            "capacity": capacity,
            "peak": peak,
            "mean": mean,
            "peak_share": share(peak as f64),
            "mean_share": share(mean),
        })
    }

    fn mean_sample(&self, of: impl Fn(&Value) -> f64) -> f64 {
        self.samples.iter().map(of).sum::<f64>() / self.samples.len() as f64
    }

    /// The part of the report that follows from the log.
    fn report(&self, lines: &[Line]) -> Value {
        let cloud = &self.cloud;
        let counted = |what: &str| cloud.counted(what);
        let mut shapes = cloud.shapes.clone();
        shapes.sort();
        let by_shape = shapes.iter().map(|(takes, requests, placed)| {
            json!({
                "vcpus": takes[0], "memory_mib": takes[1], "disk_gib": takes[2],
                "requests": requests, "placed": placed,
            })
        });
        let arrivals = || lines.iter().filter(|line| line.what == "arrived").map(|line| line.t);
        let of_hosts = self.mean("vcpus_of_hosts") / 1000.0;
        let has_power = cloud.hosts.iter().any(|host| host.machine.watts.is_some());
        let fragments =
            || self.samples.iter().map(|sample| sample["fragmentation"].as_f64().unwrap());
        let stranded = |kind: &str| self.mean_sample(|s| s["stranded"][kind].as_f64().unwrap());
        let safe = |sample: &Value| f64::from(u8::from(sample["n_plus_one"]["holds"] == true));
        let joules = self.sums[Self::at("milliwatts")] as f64 / 1e6;
        json!({
            "hosts": cloud.hosts.len(),
            "requests": cloud.came,
            "placed": counted("placed"),
            "rejected": counted("rejected"),
            "refused": object(&cloud.refused),
            "by_shape": by_shape.collect::<Vec<_>>(),
            "departed": counted("departed"),
            "remaining": cloud.guests.len(),
            "lost": counted("lost"),
            "first_arrival_s": arrivals().next().map(|t| t / 1000),
            "last_arrival_s": arrivals().next_back().map(|t| t / 1000),
            "peak_hosts_in_use": self.peak("hosts"),
            "mean_hosts_in_use": self.mean("hosts"),
            "peak_hosts_needed": self.peak("needed"),
            "mean_hosts_needed": self.mean("needed"),
            "packing_density": if of_hosts > 0.0 { self.mean("vcpus") / of_hosts } else { 0.0 },
            "mean_empty_hosts": self.mean("hosts_up") - self.mean("hosts"),
            "peak_vms": self.peak("vms"),
            "mean_vms": self.mean("vms"),
            "mean_waiting": self.mean("waiting"),
            "vcpus": self.usage("vcpus", 0),
            "memory_mib": self.usage("memory", 1),
            "disk_gib": self.usage("disk", 2),
            "fragmentation": {
                "mean": fragments().sum::<f64>() / self.samples.len() as f64,
                "peak": fragments().fold(0.0, f64::max),
                "at_end": fragments().next_back().unwrap_or(0.0),
            },
            "stranded": {
                "vcpus": stranded("vcpus"),
                "memory": stranded("memory"),
                "disk": stranded("disk"),
            },
            "n_plus_one_share": self.mean_sample(safe),
            "wait_ms": quantiles(cloud.waits.clone()),
            "put_off": object(&cloud.put_off),
            "preemptions": counted("preemptions"),
            "host_failures": counted("host_failures"),
            "resized": counted("resized"),
            "resizes_refused": counted("resizes_refused"),
            "migrations": counted("migrations"),
            "migrations_cut_short": counted("migrations_cut_short"),
            "migration_ms": counted("migration_ms"),
            "conflicts": counted("conflicts"),
            "energy_kwh": has_power.then_some(joules / 3.6e6),
            "cpu_use": self.uses.report(self.millis),
            "series": self.samples,
        })
    }
}

fn object(counts: &BTreeMap<String, u64>) -> Value {
    counts.iter().map(|(why, n)| (why.clone(), json!(n))).collect::<serde_json::Map<_, _>>().into()
}

/// Of sorted numbers, those at the ranks; a report may round them up by a sixteenth.
fn quantiles(mut numbers: Vec<u64>) -> Value {
    numbers.sort_unstable();
    let count = numbers.len();
    let rank = |share: f64| {
        let nth = (share * count as f64).ceil() as usize;
        json!({ "rounded_up": numbers.get(nth.max(1) - 1).copied().unwrap_or(0) })
    };
    let sum: u64 = numbers.iter().sum();
    json!({
        "count": count,
        "mean": if count == 0 { 0.0 } else { sum as f64 / count as f64 },
        "p50": rank(0.5),
        "p90": rank(0.9),
        "p99": rank(0.99),
        "max": numbers.last().copied().unwrap_or(0),
    })
}

/// Whether the steps hold each of these numbers, and no step is wider than a sixteenth.
fn distributed(numbers: &[u64], steps: &Value) -> Result<(), String> {
    let mut left = numbers.to_vec();
    for step in steps.as_array().into_iter().flatten() {
        let (up_to, count) = (whole(step, "up_to"), whole(step, "count") as usize);
        let before = left.len();
        left.retain(|number| *number > up_to || up_to - number > number / 16);
        if before - left.len() != count {
            return Err(format!("{count} numbers up to {up_to} are not in {numbers:?}"));
        }
    }
    if left.is_empty() { Ok(()) } else { Err(format!("{left:?} are in no step of {steps}")) }
}

/// Whether everything that is expected is there, numbers but for rounding.
fn agree(path: &str, expected: &Value, found: &Value) -> Result<(), String> {
    let differ = || Err(format!("{path}: expected {expected}, found {found}"));
    match (expected, found) {
        (Value::Object(fields), _) if fields.contains_key("rounded_up") => {
            let least = fields["rounded_up"].as_u64().unwrap();
            let within = |found: u64| (least..=least + least / 16).contains(&found);
            if found.as_u64().is_some_and(within) { Ok(()) } else { differ() }
        }
        (Value::Object(expected), Value::Object(found)) => {
            let counts = |path: &str| path.ends_with("refused") || path.ends_with("put_off");
            if counts(path) && expected.len() != found.len() {
                return differ();
            }
            expected.iter().try_for_each(|(name, value)| {
                agree(&format!("{path}.{name}"), value, found.get(name).unwrap_or(&Value::Null))
            })
        }
        (Value::Array(expected), Value::Array(items)) => {
            if expected.len() != items.len() {
                return differ();
            }
            let pairs = expected.iter().zip(items).enumerate();
            pairs.into_iter().try_for_each(|(n, (a, b))| agree(&format!("{path}[{n}]"), a, b))
        }
        (Value::Number(a), Value::Number(b)) => {
            if let (Some(a), Some(b)) = (a.as_u64(), b.as_u64()) {
                return if a == b { Ok(()) } else { differ() };
            }
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            // Free amounts are looked at in single precision.
            if (a - b).abs() <= 1e-5 * a.abs().max(1.0) { Ok(()) } else { differ() }
        }
        _ if expected == found => Ok(()),
        _ => differ(),
    }
}
