//! One page of HTML with everything in it: tables, drawings, and what was run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::bench::Outcome;
use super::compare::{Compared, Comparison, Setting};
use super::config::Experiment;
use super::plot::{Bar, Chart, Kind, Line, bars, escape, lines};
use super::table::Metric;
use crate::sim::{Report, Sample};

/// Settings that have drawings; the others have tables.
pub(super) const DRAWN_MAX: usize = 24;

/// A longer manifest is in its file only.
const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Runs that are not there are named up to so many.
const MISSING_NAMED_MAX: usize = 20;

const STYLE: &str = "\
body{font:15px/1.5 sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:1rem 0;font-size:13px}\
th,td{border-bottom:1px solid #ddd;padding:.2rem .6rem;text-align:left}\
td.number{text-align:right;font-variant-numeric:tabular-nums}\
tr.first td{border-top:2px solid #999}\
svg{width:100%;max-width:760px;height:auto;display:block;margin:1rem 0}\
pre{overflow:auto;background:#f5f5f5;padding:1rem;font-size:12px}\
.missing{background:#fff3cd;padding:.5rem 1rem}";

/// What a page is made of.
#[derive(Debug)]
pub(super) struct Page<'p> {
    pub(super) experiment: &'p Experiment,
    pub(super) outcomes: &'p [Outcome],
    pub(super) comparison: &'p Comparison,
    pub(super) missing: &'p [String],
    pub(super) manifest: &'p str,
}

impl Page<'_> {
    pub(super) fn html(&self) -> String {
        let name = escape(&self.experiment.name);
        let mut html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{name}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n"
        );
        let baseline = escape(&self.comparison.baseline);
        let _ = writeln!(
            html,
            "<p>{} runs. Policies are compared with <b>{baseline}</b>, in pairs of runs with the \
             same seed. Intervals are {} % percentile bootstraps with {} resamples; p values are of \
             a test that flips the signs of paired differences, corrected by Holm for the policies \
             that are compared.</p>",
            self.outcomes.len(),
            self.comparison.confidence * 100.0,
            self.comparison.resamples,
        );
        self.add_missing(&mut html);
        self.add_sweeps(&mut html);
        for (nth, setting) in self.comparison.settings.iter().enumerate() {
            let _ = writeln!(html, "<h2>{}</h2>", escape(&setting.title()));
            add_table(&mut html, setting, &self.comparison.baseline);
            for note in setting.notes() {
                let _ = writeln!(html, "<p>{}</p>", escape(&note));
            }
            if nth < DRAWN_MAX {
                self.add_drawings(&mut html, setting);
            }
        }
        if self.comparison.settings.len() > DRAWN_MAX {
            let _ = writeln!(html, "<p>Only the first {DRAWN_MAX} settings have drawings.</p>");
        }
        html.push_str("<h2>What was run</h2>\n");
        if self.manifest.len() <= MANIFEST_BYTES_MAX {
            let _ = writeln!(html, "<pre>{}</pre>", escape(self.manifest));
        } else {
            html.push_str("<p>See manifest.json, which is too long for this page.</p>\n");
        }
        html.push_str("</body>\n</html>\n");
        html
    }

    fn add_missing(&self, html: &mut String) {
        if self.missing.is_empty() {
            return;
        }
        let named: Vec<String> =
            self.missing.iter().take(MISSING_NAMED_MAX).map(|name| escape(name)).collect();
        let more = if self.missing.len() > MISSING_NAMED_MAX { "; …" } else { "" };
        let _ = writeln!(
            html,
            "<p class=\"missing\">{} runs are not there yet: {}{more}.</p>",
            self.missing.len(),
            named.join("; ")
        );
    }

    /// A line for each policy over the values of each sweep that has numbers, all else the same.
    fn add_sweeps(&self, html: &mut String) {
        type Others = (String, String, BTreeMap<String, String>);
        let settings = &self.comparison.settings;
        let sets: BTreeSet<&String> = settings.iter().flat_map(|s| s.swept.keys()).collect();
        for set in sets {
            let mut groups: BTreeMap<Others, Vec<(f64, &Setting)>> = BTreeMap::new();
            for setting in settings {
                let Some(Ok(value)) = setting.swept.get(set).map(|value| value.parse()) else {
                    continue;
                };
                let mut others = setting.swept.clone();
                others.remove(set);
                let key = (setting.trace.clone(), setting.cluster.clone(), others);
                groups.entry(key).or_default().push((value, setting));
            }
            let groups = groups.into_iter().filter(|(_, group)| group.len() > 1);
            for ((trace, cluster, others), mut group) in groups.take(DRAWN_MAX) {
                group.sort_by(|(a, _), (b, _)| a.total_cmp(b));
                let mut title = format!("{trace} on {cluster}");
                for (set, value) in others {
                    let _ = write!(title, ", {set} = {value}");
                }
                let _ = writeln!(html, "<h2>{} over {}</h2>", escape(&title), escape(set));
                for metric in Metric::ALL.iter().filter(|metric| metric.more_is_better.is_some()) {
                    add_sweep(html, metric, set, &group);
                }
            }
        }
    }

    fn add_drawings(&self, html: &mut String, setting: &Setting) {
        for compared in setting.differing() {
            let bar = |estimate: &super::compare::Estimate| Bar {
                name: estimate.policy.clone(),
                value: estimate.mean,
                interval: estimate.interval,
            };
            let all: Vec<Bar> = compared.policies.iter().map(bar).collect();
            let unit = format!("{}: mean over seeds, 95 % interval", compared.metric);
            html.push_str(&bars(Chart { title: compared.title(), x: &unit, y: "" }, &all));
        }
        let runs: Vec<&Outcome> = self.outcomes.iter().filter(|o| is_of(o, setting)).collect();
        // Of time, one run of each policy, all with the same seed: means of many hide what happens.
        let Some(seed) = runs.first().map(|outcome| outcome.run.seed) else { return };
        let shown: Vec<&&Outcome> = runs.iter().filter(|o| o.run.seed == seed).collect();
        let over_time = |title: &str, y: &str, of: &dyn Fn(&Report, &Sample) -> f64| {
            let line = |outcome: &&&Outcome| line(outcome, of);
            Drawing { title: format!("{title}, seed {seed}"), y: y.to_owned() }
                .over_time(shown.iter().map(line).collect())
        };
        html.push_str(&over_time("vCPUs taken of all", "share", &|report, sample| {
            share(sample.vcpus as f64, report.vcpus.capacity)
        }));
        html.push_str(&over_time("memory taken of all", "share", &|report, sample| {
            share(sample.memory_mib as f64, report.memory_mib.capacity)
        }));
        let in_use = |_: &Report, sample: &Sample| sample.hosts_in_use as f64;
        let mut hosts: Vec<Line> = shown.iter().map(|outcome| line(outcome, &in_use)).collect();
        let base = shown.iter().find(|o| o.run.policy.name == self.comparison.baseline);
        if let Some(base) = base.or(shown.first()) {
            let mut bound = line(base, &|_, sample| sample.hosts_needed as f64);
            bound.name = format!("needed at least by {}", base.run.policy.name);
            hosts.push(Line { kind: Kind::Bound, ..bound });
        }
        let drawing = Drawing { title: format!("hosts in use, seed {seed}"), y: "hosts".into() };
        html.push_str(&drawing.over_time(hosts));
        html.push_str(&distribution(&runs, "hosts in use", &in_use));
        if shown.iter().any(|o| o.report.series.iter().any(|sample| sample.waiting > 0)) {
            let waiting = |_: &Report, sample: &Sample| sample.waiting as f64;
            html.push_str(&over_time("VMs that wait", "VMs", &waiting));
        }
        if runs.iter().any(|outcome| outcome.report.wait_ms.max > 0) {
            html.push_str(&waits(&runs));
        }
        if shown.iter().any(|outcome| outcome.report.cpu_use.is_some()) {
            let wanted = |report: &Report, sample: &Sample| {
                share(sample.cpus_wanted.unwrap_or(0.0), report.vcpus.capacity)
            };
            html.push_str(&over_time(
                "CPUs wanted of vCPUs that may be promised",
                "share",
                &wanted,
            ));
            let overloaded =
                |_: &Report, sample: &Sample| sample.hosts_overloaded.unwrap_or(0) as f64;
            html.push_str(&over_time("hosts overloaded", "hosts", &overloaded));
        }
    }
}

/// A drawing over time, before it is known in which unit.
struct Drawing {
    title: String,
    y: String,
}

impl Drawing {
    /// Lines over seconds, shown in hours or days.
    fn over_time(&self, mut all: Vec<Line>) -> String {
        let times = || all.iter().flat_map(|line| line.points.iter().map(|point| point.0));
        let (first, last) = (times().fold(f64::MAX, f64::min), times().fold(0.0, f64::max));
        let (unit, seconds) =
            if last - first > 3.0 * 86_400.0 { ("days", 86_400.0) } else { ("hours", 3600.0) };
        for point in all.iter_mut().flat_map(|line| &mut line.points) {
            point.0 /= seconds;
        }
        lines(Chart { title: &self.title, x: unit, y: &self.y }, &all)
    }
}

fn is_of(outcome: &Outcome, setting: &Setting) -> bool {
    let run = &outcome.run;
    run.trace.name == setting.trace
        && run.cluster.name == setting.cluster
        && run.swept == setting.swept
}

fn share(amount: f64, capacity: f64) -> f64 {
    if capacity > 0.0 { amount / capacity } else { 0.0 }
}

fn line(outcome: &Outcome, of: &dyn Fn(&Report, &Sample) -> f64) -> Line {
    let report = &outcome.report;
    let points = report.series.iter().map(|sample| (sample.at_s as f64, of(report, sample)));
    Line { name: outcome.run.policy.name.clone(), points: points.collect(), kind: Kind::Plain }
}

/// Which share of the samples of each policy, those of all seeds, is at most so large.
fn distribution(runs: &[&Outcome], what: &str, of: &dyn Fn(&Report, &Sample) -> f64) -> String {
    let values =
        |report: &Report| report.series.iter().map(|sample| (of(report, sample), 1)).collect();
    let title = format!("{what}, distribution over the samples of all seeds");
    let chart = Chart { title: &title, x: what, y: "share of samples" };
    lines(chart, &distributions(runs, values))
}

/// Which share of the VMs of each policy, those of all seeds, had a host after so many seconds.
fn waits(runs: &[&Outcome]) -> String {
    let seconds = |report: &Report| {
        let steps = report.waited_ms.iter();
        steps.map(|step| (step.up_to as f64 / 1000.0, step.count)).collect()
    };
    let title = "wait for a host, distribution over the placed VMs of all seeds";
    lines(Chart { title, x: "seconds", y: "share of VMs" }, &distributions(runs, seconds))
}

/// For each policy the distribution of values, each so many times, in the reports of its runs.
fn distributions(runs: &[&Outcome], of: impl Fn(&Report) -> Vec<(f64, u64)>) -> Vec<Line> {
    let mut policies: Vec<(&str, Vec<(f64, u64)>)> = Vec::new();
    for outcome in runs {
        let values = of(&outcome.report);
        let name = outcome.run.policy.name.as_str();
        match policies.iter_mut().find(|(known, _)| *known == name) {
            Some((_, all)) => all.extend(values),
            None => policies.push((name, values)),
        }
    }
    let line = |(name, values): (&str, Vec<(f64, u64)>)| Line {
        name: name.to_owned(),
        points: steps(values),
        kind: Kind::Plain,
    };
    policies.into_iter().map(line).collect()
}

/// The empirical distribution function: at each value it steps up by the value's share.
fn steps(mut values: Vec<(f64, u64)>) -> Vec<(f64, f64)> {
    values.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
    let count = |values: &[(f64, u64)]| values.iter().map(|(_, count)| count).sum::<u64>();
    let (all, mut below) = (count(&values) as f64, 0);
    let mut points = Vec::new();
    for same in values.chunk_by(|(a, _), (b, _)| a == b) {
        points.push((same[0].0, below as f64 / all));
        below += count(same);
        points.push((same[0].0, below as f64 / all));
    }
    points
}

fn add_table(html: &mut String, setting: &Setting, baseline: &str) {
    html.push_str("<table>\n");
    for (nth, row) in setting.rows(baseline).iter().enumerate() {
        let (tag, class) = match nth {
            0 => ("th", ""),
            _ if !row[0].is_empty() => ("td", " class=\"first\""),
            _ => ("td", ""),
        };
        let _ = write!(html, "<tr{class}>");
        for (column, cell) in row.iter().enumerate() {
            let number = if nth > 0 && column > 1 { " class=\"number\"" } else { "" };
            let _ = write!(html, "<{tag}{number}>{}</{tag}>", escape(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
}

fn add_sweep(html: &mut String, metric: &Metric, set: &str, group: &[(f64, &Setting)]) {
    let mut all: Vec<Line> = Vec::new();
    let mut values = BTreeSet::new();
    for (value, setting) in group {
        let of_metric = |compared: &&Compared| compared.metric == metric.name;
        let Some(compared) = setting.metrics.iter().find(of_metric) else { continue };
        for estimate in &compared.policies {
            let point = (*value, estimate.mean);
            values.insert(estimate.mean.to_bits());
            match all.iter_mut().find(|line| line.name == estimate.policy) {
                Some(line) => line.points.push(point),
                None => {
                    let name = estimate.policy.clone();
                    all.push(Line { name, points: vec![point], kind: Kind::Plain });
                }
            }
        }
    }
    // What nothing has an influence on needs no drawing.
    if values.len() > 1 {
        html.push_str(&lines(Chart { title: metric.title, x: set, y: metric.name }, &all));
    }
}

#[cfg(test)]
mod tests {
    use super::steps;

    #[test]
    fn a_distribution_steps_at_each_value() {
        let wanted = [(1.0, 0.0), (1.0, 0.25), (2.0, 0.25), (2.0, 0.75), (5.0, 0.75), (5.0, 1.0)];
        assert_eq!(steps([2.0, 5.0, 1.0, 2.0].map(|value| (value, 1)).to_vec()), wanted);
        assert_eq!(steps(vec![(2.0, 2), (5.0, 1), (1.0, 1)]), wanted);
        assert_eq!(steps(Vec::new()), []);
    }
}
