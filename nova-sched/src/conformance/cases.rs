//! Single decisions.

use std::collections::BTreeMap;

use nova_core::domain::{Purpose, RequestSpec};
use serde_json::Value;

use super::names;
use super::record::Case;
use super::report::Report;
use super::world::{Unreadable, World};
use crate::pipeline::{Failed, Ranking};
use crate::view::View;
use crate::{Filter, FilterScheduler, Verdict};

/// What a filter says of all hosts: those that pass, or that it cannot say.
type Passed = Result<Vec<String>, ()>;

/// Asks the filters one by one, then the whole.
pub(super) fn ask(case: &Case, report: &mut Report) {
    let alike = decide(case, report).unwrap_or_else(|unreadable| {
        report.failures.push(format!("{}: cannot be read: {unreadable}", case.id));
        false
    });
    report.decisions.count(alike);
}

fn decide(case: &Case, report: &mut Report) -> Result<bool, Unreadable> {
    let mut world = World::new(&case.hosts, &case.aggregates, &case.config)?;
    let request = world.request(&case.request, case.request.instance_group.as_ref())?;
    let options = world.options(&case.config)?;
    let mut alike = true;
    for (name, expected) in &case.expect.passed_by_filter {
        let filter = names::filter(name, &options)?;
        let expected = names_in(expected);
        let said = alone(&*filter, &world, &request);
        let same = report.note(&case.id, name, &said, &expected);
        report.filters.entry(name.clone()).or_default().count(same);
        alike &= same;
    }
    let policy = world.policy(None, &case.filters, &case.weighers, &case.config)?;
    Ok(whole(case, &world, &request, &policy, report) && alike)
}

/// `{"error": ...}` or a list of names.
fn names_in(expected: &Value) -> Passed {
    let names = expected.as_array().ok_or(())?;
    Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// What `filter` says of each host, whatever others say.
fn alone(filter: &dyn Filter, world: &World, request: &RequestSpec) -> Passed {
    let skipped = request.purpose == Purpose::Rebuild && !filter.on_rebuild();
    let skipped = skipped || !filter.concerns(request);
    let mut passed = Vec::new();
    for row in world.table.rows() {
        match if skipped { Verdict::Pass } else { filter.check(row, request) } {
            Verdict::Pass => passed.push(row.name.to_string()),
            Verdict::Reject(_) => {}
            Verdict::Error(_) => return Err(()),
        }
    }
    Ok(passed)
}

fn whole(
    case: &Case,
    world: &World,
    request: &RequestSpec,
    policy: &FilterScheduler,
    report: &mut Report,
) -> bool {
    let expect = &case.expect;
    let (ranking, failed) = policy.ranking(&View::new(&world.table), request);
    let stage = expect.error.as_ref().and_then(|error| error["stage"].as_str());
    let said = failed.map(|failed| match failed {
        Failed::Filter => "filter",
        Failed::Weigher => "weigh",
    });
    let mut alike = report.note(&case.id, "error", &said, &stage);
    let name = |at: &usize| match world.table.at(ranking.passed[*at]) {
        Some(row) => row.name.to_string(),
        None => String::new(),
    };
    let all: Vec<usize> = (0..ranking.passed.len()).collect();
    if failed != Some(Failed::Filter) {
        let passed = Some(all.iter().map(name).collect());
        alike &= report.note(&case.id, "passed", &passed, &expect.passed);
    }
    for (nth, weigher) in case.weighers.iter().enumerate() {
        let Some(expected) = expect.raw_weights.get(&weigher.name) else { continue };
        let same = raw(case, world, request, policy, (nth, &ranking), expected, report);
        report.weighers.entry(weigher.name.clone()).or_default().count(same);
        alike &= same;
    }
    if let (None, Some(weights)) = (failed, &expect.weights) {
        let said: BTreeMap<String, f64> =
            all.iter().map(|at| (name(at), ranking.score[*at])).collect();
        alike &= near_all(&case.id, "weights", &said, weights, report);
    }
    if let (None, Some(order)) = (failed, &expect.order) {
        // Groups of equals: the order within a group is that of the record.
        let ranked = ranking.order();
        let ranked: Vec<String> = ranked.iter().map(name).collect();
        let expected: Vec<String> = order.iter().flatten().cloned().collect();
        alike &= report.note(&case.id, "order", &ranked, &expected);
    }
    alike
}

/// Whether the weigher at `nth` says the same of every host.
fn raw(
    case: &Case,
    world: &World,
    request: &RequestSpec,
    policy: &FilterScheduler,
    (nth, ranking): (usize, &Ranking),
    expected: &BTreeMap<String, Value>,
    report: &mut Report,
) -> bool {
    let what = format!("raw weights of {}", case.weighers[nth].name);
    let weighing = &policy.weighers[nth];
    let mut said = BTreeMap::new();
    let mut undefined = false;
    for slot in &ranking.passed {
        let Some(row) = world.table.at(*slot) else { continue };
        let raw = weighing.weigher.weigh(row, request);
        undefined |= raw.is_nan();
        said.insert(row.name.to_string(), weighing.ends.clamp(raw));
    }
    if expected.contains_key("error") || undefined {
        return report.note(&case.id, &what, &undefined, &expected.contains_key("error"));
    }
    let number = |(name, value): (&String, &Value)| Some((name.clone(), value.as_f64()?));
    near_all(&case.id, &what, &said, &expected.iter().filter_map(number).collect(), report)
}

/// Whether both name the same hosts with numbers that are the same but for rounding.
fn near_all(
    id: &str,
    what: &str,
    said: &BTreeMap<String, f64>,
    expected: &BTreeMap<String, f64>,
    report: &mut Report,
) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0);
    let alike = said.len() == expected.len()
        && said.iter().all(|(host, a)| expected.get(host).is_some_and(|b| near(*a, *b)));
    alike || report.note(id, what, said, expected)
}
