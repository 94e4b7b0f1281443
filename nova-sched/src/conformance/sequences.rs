//! Sequences of placements.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::record::{Group, Sequence};
use super::report::Report;
use super::world::{Unreadable, World};
use crate::filters::Capacity;
use crate::tally::Silent;

/// Asks request by request.
pub(super) fn ask(sequence: &Sequence, report: &mut Report) {
    let alike = play(sequence, report).unwrap_or_else(|unreadable| {
        report.failures.push(format!("{}: cannot be read: {unreadable}", sequence.id));
        false
    });
    report.sequences.count(alike);
}

fn play(sequence: &Sequence, report: &mut Report) -> Result<bool, Unreadable> {
    let mut world = World::new(&sequence.hosts, &sequence.aggregates, &sequence.config)?;
    let room = Some(Arc::new(Capacity) as _);
    let policy = world.policy(room, &sequence.filters, &sequence.weighers, &sequence.config)?;
    let mut groups: BTreeMap<&str, Group> =
        sequence.groups.iter().map(|group| (group.name.as_str(), group.clone())).collect();
    let mut all = true;
    for (nth, request) in sequence.requests.iter().enumerate() {
        let mut group = match &request.group {
            None => None,
            Some(name) => {
                let known = groups.get(name.as_str()).ok_or_else(|| format!("group {name:?}"))?;
                Some(known.clone())
            }
        };
        if let Some(group) = &mut group {
            group.members.extend(request.instances().map(str::to_owned));
        }
        let spec = world.request(request, group.as_ref())?;
        let wanted = spec.flavor.resources();
        let room = world.table.rows().filter(|row| row.lacks(&wanted).is_none()).count();
        let placed = policy.place(&world.table, &spec, None, &mut Silent).ok();
        let chosen: Option<Vec<String>> = placed
            .as_ref()
            .map(|placement| placement.hosts.iter().map(|id| world.name_of(*id)).collect());
        let expected = sequence.expect.chosen.get(nth).unwrap_or(&Value::Null);
        let what = format!("request {nth}");
        let said = (Some(room), &chosen);
        let expected_room = sequence.expect.hosts_with_capacity.get(nth).copied();
        let alike = report.note(&sequence.id, &what, &said, &(expected_room, &hosts(expected)));
        report.requests.count(alike);
        all &= alike;
        // What follows would differ for no reason of its own.
        if !alike {
            break;
        }
        for (host, instance) in placed.into_iter().flat_map(|p| p.hosts).zip(&spec.instances) {
            let mut one = spec.clone();
            one.instances = vec![*instance];
            world.table.update(host, |row| policy.consume(row, &one));
        }
        if let (Some(mut group), Some(chosen)) = (group, chosen) {
            group.hosts.extend(chosen);
            if let Some(known) = groups.get_mut(group.name.clone().as_str()) {
                *known = group;
            }
        }
    }
    Ok(all)
}

/// A name, a list of names, or null.
fn hosts(expected: &Value) -> Option<Vec<String>> {
    match expected {
        Value::String(name) => Some(vec![name.clone()]),
        Value::Array(names) => {
            Some(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
        }
        _ => None,
    }
}
