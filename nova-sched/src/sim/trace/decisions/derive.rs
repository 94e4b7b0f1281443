//! Who was where, question by question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nova_core::clock::Timestamp;
use nova_core::domain::{
    GroupView, HostId, HostState, HostTable, InstanceId, Purpose, RequestSpec, Resources,
    ServerGroupId,
};

use super::{Recorded, Told};
use crate::explain::{Asked, LogError};
use crate::sim::trace::{TraceError, TraceRow};
use crate::sim::vm::{instance_of, number_of};
use crate::sim::{Cluster, Requests};

/// What is known up to some question of a log.
#[derive(Debug, Default)]
pub(super) struct Following {
    told: Told,
    /// When the first question was asked.
    began: Option<Timestamp>,
    /// When the present one was.
    now: Timestamp,
    /// Each host as it was first seen, with what is of no row.
    hosts: BTreeMap<HostId, HostState>,
    /// What was claimed on each host when it was last seen.
    claims: BTreeMap<HostId, BTreeMap<InstanceId, Resources>>,
    there: BTreeMap<InstanceId, There>,
    /// What was placed and not seen yet.
    placed: BTreeMap<InstanceId, Placed>,
    /// Those of a group that are there or placed.
    groups: BTreeMap<ServerGroupId, BTreeSet<InstanceId>>,
    rows: Vec<Row>,
    requests: Requests,
    departures: Vec<(HostId, InstanceId, Timestamp)>,
    numbers: u64,
}

/// An instance that has claims.
#[derive(Debug)]
struct There {
    /// Where, and how much; what came last is last.
    places: Vec<(HostId, Resources)>,
    part: Part,
    /// What was asked for it last.
    asks: Option<Box<RequestSpec>>,
}

/// What an instance is in the trace.
#[derive(Debug)]
enum Part {
    /// Nothing yet.
    New,
    /// It was on these hosts when they were first seen, and this large.
    Before(Vec<HostId>, Resources),
    /// A row, by its place among them.
    Row(usize),
}

/// An instance that was placed and not seen yet.
#[derive(Debug)]
struct Placed {
    /// When it was first asked for, and with which question.
    at: Timestamp,
    question: u64,
    line: u64,
    /// Which question was the last for it.
    last: u64,
    number: u64,
    gang: Option<u64>,
    request: Box<RequestSpec>,
}

#[derive(Debug)]
struct Row {
    comes: Timestamp,
    /// Rows of one moment are in the order of the questions.
    question: u64,
    ends: Option<Timestamp>,
    resources: Resources,
    line: u64,
    number: u64,
    gang: Option<u64>,
}

impl Following {
    pub(super) fn fault(&mut self, fault: &LogError) {
        if matches!(fault, LogError::Torn { .. }) {
            self.told.torn = true;
            return;
        }
        self.told.faults += 1;
        if self.told.first_faults.len() < Told::FAULTS_MAX {
            let (line, text) = (fault.line().unwrap_or(0), fault.to_string());
            let why = text.strip_prefix(&format!("line {line}: ")).unwrap_or(&text);
            self.told.first_faults.push((line, why.to_owned()));
        }
    }

    /// Takes a question as the next one.
    pub(super) fn take(&mut self, asked: &Asked<'_>) -> Result<(), TraceError> {
        // Another process may have gone on with a clock that is behind.
        self.now = self.now.max(asked.at);
        self.began.get_or_insert(self.now);
        self.told.questions += 1;
        let mut affected = BTreeSet::new();
        for host in asked.changed {
            self.see(*host, asked.hosts, &mut affected);
        }
        for instance in affected {
            self.settle(instance, asked.line);
        }
        if asked.request.purpose == Purpose::Place {
            self.decide(asked);
        } else {
            self.told.looks += 1;
        }
        if self.rows.len() + self.placed.len() > Recorded::ROWS_MAX {
            let (what, max) = ("servers in a log of decisions", Recorded::ROWS_MAX);
            return Err(TraceError::TooMany { what, max });
        }
        Ok(())
    }

    /// Looks at a host: who came, who went.
    fn see(&mut self, id: HostId, hosts: &HostTable, affected: &mut BTreeSet<InstanceId>) {
        let row = hosts.get(id);
        let now: BTreeMap<InstanceId, Resources> =
            row.into_iter().flat_map(HostState::claims).map(|(i, amount)| (i, *amount)).collect();
        let is_first = row.is_some_and(|row| self.is_first(row));
        let before = self.claims.insert(id, now.clone()).unwrap_or_default();
        for instance in before.keys().filter(|instance| !now.contains_key(instance)) {
            if let Some(there) = self.there.get_mut(instance) {
                there.places.retain(|(host, _)| *host != id);
            }
            affected.insert(*instance);
        }
        for (instance, amount) in now {
            if before.get(&instance) == Some(&amount) {
                continue;
            }
            affected.insert(instance);
            let known = self.there.contains_key(&instance) || self.placed.contains_key(&instance);
            let there = self.there.entry(instance).or_insert_with(|| There {
                places: Vec::new(),
                part: Part::New,
                asks: None,
            });
            there.places.retain(|(host, _)| *host != id);
            there.places.push((id, amount));
            let stays = match &mut there.part {
                Part::New if is_first && !known => {
                    there.part = Part::Before(vec![id], amount);
                    true
                }
                Part::Before(on, size) if is_first => {
                    on.push(id);
                    *size = amount;
                    true
                }
                _ => false,
            };
            if let Some(row) = self.hosts.get_mut(&id).filter(|_| is_first && !stays) {
                row.release(instance);
            }
        }
    }

    /// Whether a host was never seen before; it is kept as it is then.
    fn is_first(&mut self, row: &HostState) -> bool {
        if let Some(known) = self.hosts.get_mut(&row.id) {
            if row.is_open() {
                (known.admission, known.liveness) = (row.admission.clone(), row.liveness);
            }
            return false;
        }
        self.told.later_hosts += u64::from(self.told.questions > 1);
        let mut first = row.clone();
        first.io_ops = 0;
        self.hosts.insert(row.id, first);
        true
    }

    /// What an instance is, after its claims have changed.
    fn settle(&mut self, instance: InstanceId, line: u64) {
        let Some(mut there) = self.there.remove(&instance) else { return };
        let placed = self.placed.remove(&instance);
        let Some((_, resources)) = there.places.last().copied() else {
            self.end(instance, &there.part);
            let group = there.asks.as_ref().and_then(|asks| asks.group.as_ref());
            if let Some(members) = group.and_then(|group| self.groups.get_mut(&group.id)) {
                members.remove(&instance);
            }
            // It may come back: it was asked for, and left before it came.
            self.placed.extend(placed.map(|placed| (instance, placed)));
            return;
        };
        let (now, question) = (self.now, self.told.questions * 2);
        match &mut there.part {
            Part::New => {
                let row = match placed {
                    Some(placed) => {
                        let Placed { at, question, line, number, gang, request, .. } = placed;
                        self.asks(number, &request, resources);
                        there.asks = Some(request);
                        Row { comes: at, question, ends: None, resources, line, number, gang }
                    }
                    None => {
                        self.told.unasked += 1;
                        self.row(now, question, resources, line)
                    }
                };
                there.part = self.add(row);
            }
            Part::Before(on, size) if *size == resources => {
                // It is in two places when it is seen moving.
                let gone = |host: &HostId| !there.places.iter().any(|(place, _)| place == host);
                while on.len() > 1
                    && let Some(at) = on.iter().position(gone)
                {
                    self.departures.push((on.remove(at), instance, now));
                }
            }
            Part::Row(nth) if self.rows[*nth].resources == resources => {}
            part => {
                let row = self.row(now, question, resources, line);
                if let Some(request) = &there.asks {
                    self.asks(row.number, request, resources);
                }
                let part = std::mem::replace(part, Part::New);
                self.end(instance, &part);
                there.part = self.add(row);
            }
        }
        self.there.insert(instance, there);
    }

    fn row(&mut self, comes: Timestamp, question: u64, resources: Resources, line: u64) -> Row {
        let number = self.number();
        Row { comes, question, ends: None, resources, line, number, gang: None }
    }

    fn add(&mut self, row: Row) -> Part {
        self.rows.push(row);
        Part::Row(self.rows.len() - 1)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A row asks for what was asked for, where that is of its size.
    fn asks(&mut self, number: u64, request: &RequestSpec, resources: Resources) {
        if request.flavor.resources() == resources {
            self.requests.insert(number, request.clone());
        }
    }

    fn end(&mut self, instance: InstanceId, part: &Part) {
        match part {
            Part::New => {}
            Part::Before(on, _) => {
                let now = self.now;
                self.departures.extend(on.iter().map(|host| (*host, instance, now)));
            }
            Part::Row(nth) => self.rows[*nth].ends = Some(self.now),
        }
    }

    /// Takes down what was asked and answered.
    fn decide(&mut self, asked: &Asked<'_>) {
        let Asked { request, placed, .. } = asked;
        let is_there = |instance| self.there.contains_key(instance);
        let moves = request.instances.iter().any(is_there);
        match (moves, placed) {
            (true, _) => self.told.moves += 1,
            (false, None) => self.told.refused += 1,
            (false, Some(_)) => {}
        }
        if placed.is_none() {
            return;
        }
        let gang = (request.instances.len() > 1).then_some(self.told.questions);
        for instance in &request.instances {
            let mut asks = Box::new(self.as_simulated(request, *instance));
            if let Some(group) = &asks.group {
                self.groups.entry(group.id).or_default().insert(*instance);
            }
            if let Some(there) = self.there.get_mut(instance) {
                (asks.destination, asks.ignore_hosts) = Default::default();
                there.asks = Some(asks);
                continue;
            }
            // Asked for again, since the first host did not do, it has come at the first time.
            let number = self.placed.get(instance).map(|before| before.number);
            let number = number.unwrap_or_else(|| self.number());
            let new = Placed {
                at: self.now,
                question: self.told.questions * 2 + 1,
                line: asked.line,
                last: 0,
                number,
                gang,
                request: asks,
            };
            self.placed.entry(*instance).or_insert(new).last = self.told.questions;
        }
    }

    /// A request as it is asked in a simulation.
    fn as_simulated(&self, request: &RequestSpec, instance: InstanceId) -> RequestSpec {
        let mut request = request.clone();
        let names = |ids: &BTreeSet<InstanceId>| ids.iter().map(|id| self.name(*id)).collect();
        request.hints.same_host = names(&request.hints.same_host);
        request.hints.different_host = names(&request.hints.different_host);
        if let Some(group) = &mut request.group {
            self.leave_out(group, instance);
        }
        request
    }

    /// What an instance is called in the simulation.
    fn name(&self, instance: InstanceId) -> InstanceId {
        let row = match self.there.get(&instance).map(|there| &there.part) {
            Some(Part::Row(nth)) => self.rows.get(*nth).map(|row| row.number),
            _ => self.placed.get(&instance).map(|placed| placed.number),
        };
        row.map_or_else(|| apart(instance), instance_of)
    }

    /// Leaves those members out of a group that are of the trace.
    fn leave_out(&self, group: &mut GroupView, but: InstanceId) {
        let members = self.groups.get(&group.id).into_iter().flatten();
        for member in members.filter(|member| **member != but) {
            let Some(There { places, part: Part::Row(_), .. }) = self.there.get(member) else {
                continue;
            };
            for (host, _) in places {
                if let Some(count) = group.members_by_host.get_mut(host) {
                    *count = count.saturating_sub(1);
                }
            }
        }
        group.members_by_host.retain(|_, count| *count > 0);
        group.hosts = group.members_by_host.keys().copied().collect();
    }

    pub(super) fn finish(mut self, skipped_lines: u64) -> Result<Recorded, TraceError> {
        self.told.skipped_lines = skipped_lines;
        let Some(began) = self.began else { return Err(TraceError::NoQuestion) };
        for (instance, placed) in std::mem::take(&mut self.placed) {
            let Placed { at, question, line, last, number, gang, request } = placed;
            if last < self.told.questions || self.there.contains_key(&instance) {
                self.told.unseen += 1;
                continue;
            }
            let resources = request.flavor.resources();
            self.asks(number, &request, resources);
            self.add(Row { comes: at, question, ends: None, resources, line, number, gang });
        }
        self.rows.sort_by_key(|row| (row.comes, row.question, row.number));
        let seconds = |at: Timestamp| at.since(began).as_secs();
        let mut rows = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let Resources { vcpus, memory, disk } = row.resources;
            let row = TraceRow {
                line: row.line,
                vm: row.number,
                arrival_s: seconds(row.comes),
                end_s: row.ends.map(seconds),
                vcpus,
                memory,
                disk,
                priority: 0,
                gang: row.gang,
                cpu_permille: None,
            };
            match row.check() {
                Ok(()) => rows.push(row),
                Err(_) => self.told.unusable += 1,
            }
        }
        let hosts = HostTable::new(self.hosts.into_values().map(with_names_apart));
        let mut cluster = Cluster::from(hosts);
        for (host, instance, at) in self.departures {
            cluster = cluster.with_departure(host, apart(instance), seconds(at));
        }
        let (rows, requests) = (Arc::from(rows), Arc::new(self.requests));
        Ok(Recorded { cluster, rows, requests, told: self.told })
    }
}

/// What an instance is called that is not of the trace: not as one of a trace is, which a log of a
/// simulation has.
fn apart(instance: InstanceId) -> InstanceId {
    match number_of(instance) {
        Some(_) => InstanceId::from_u128(instance.as_u128() | 1 << 127),
        None => instance,
    }
}

fn with_names_apart(mut host: HostState) -> HostState {
    let claims: Vec<(InstanceId, Resources)> =
        host.claims().map(|(instance, amount)| (instance, *amount)).collect();
    for (instance, amount) in claims.into_iter().filter(|(id, _)| number_of(*id).is_some()) {
        host.release(instance);
        host.claim(apart(instance), amount);
    }
    host
}
