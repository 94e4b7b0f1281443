//! From one host network to another, in steps.
//!
//! [`diff`] is a plain function. Its plans make before they break: what is new comes first
//! wherever it can, so that a guest whose floating IP moves is never without one, and what goes
//! goes last, in the reverse of the order in which it was built. Only where the new and the old
//! cannot be there together (the same VLAN of an interface, the same address of a host) the old
//! goes first, with everything that needs it.
//!
//! A plan is written for people by its `Display`, and for machines by serde.
//! [`check`](crate::check::check) decides by rules of its own whether a plan is sound.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use petgraph::Direction;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::host::{Flaw, HostNet, Part, PartId};

/// What a step does. Doing it twice changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "do", content = "what")]
#[allow(clippy::exhaustive_enums)] // a backend that does not know an action must not compile
pub enum Action {
    /// The part is there afterwards.
    Add(Part),
    /// The part, which is there, is so afterwards, without having been away.
    Change(Part),
    /// The part is not there afterwards.
    Remove(Part),
}

impl Action {
    /// The part it is about.
    pub fn part(&self) -> &Part {
        match self {
            Self::Add(part) | Self::Change(part) | Self::Remove(part) => part,
        }
    }

    /// Does it to a network that is a value.
    ///
    /// # Errors
    /// [`Flaw`] when it cannot be done there; nothing has changed then.
    pub fn apply(&self, net: &mut HostNet) -> Result<(), Flaw> {
        match self {
            Self::Add(part) => net.insert(part.clone()),
            Self::Change(part) => net.change(part.clone()),
            // Only this very part: when it has been replaced already, it is gone already.
            Self::Remove(part) if net.get(&part.id()) == Some(part) => net.remove(&part.id()),
            Self::Remove(_) => Ok(()),
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Add(part) => write!(f, "add {part}"),
            Self::Change(part) => write!(f, "change {part}"),
            Self::Remove(part) => write!(f, "remove {part}"),
        }
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Step {
    /// Its place in the plan, from 0.
    pub number: usize,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
}

/// Steps in the order in which they are to be done.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
#[must_use = "a plan does nothing until it is applied"]
pub struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// The plan of these actions, in this order; sound or not.
    pub fn new(actions: impl IntoIterator<Item = Action>) -> Self {
        let steps = actions.into_iter().enumerate();
        Self { steps: steps.map(|(number, action)| Step { number, action }).collect() }
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing to do");
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "{:>4} {}", step.number, step.action))
    }
}

/// The steps that turn `from` into `to`.
pub fn diff(from: &HostNet, to: &HostNet) -> Plan {
    let mut remade: BTreeSet<PartId> = BTreeSet::new();
    for (id, new) in to.parts() {
        if from.get(id).is_some_and(|old| old != new && !old.changes_in_place_to(new)) {
            remade.insert(id.clone());
        }
    }
    loop {
        with_dependents(&mut remade, from, to);
        let graph = graph(from, to, &remade);
        match order(&graph) {
            Ok(actions) => return Plan::new(actions),
            // Changes that wait for each other, such as two bridges that swap their uplinks.
            // One of them is taken apart instead. With no change left there is no circle:
            // removals wait only for removals, and what is added waits for nothing after it.
            Err(stuck) => match stuck {
                Some(id) => drop(remade.insert(id)),
                None => return rebuild(from, to),
            },
        }
    }
}

/// Extends `remade` by everything that needs, before and after, what is away for a while.
fn with_dependents(remade: &mut BTreeSet<PartId>, from: &HostNet, to: &HostNet) {
    // A part comes after everything it needs, so one pass finds them all.
    for (id, old) in from.parts() {
        let Some(new) = to.get(id) else { continue };
        let still = new.needs();
        if old.needs().iter().any(|needs| still.contains(needs) && remade.contains(needs)) {
            remade.insert(id.clone());
        }
    }
}

type Graph = DiGraph<Action, ()>;

/// One node for each action, and an edge to each action that has to wait for it.
fn graph(from: &HostNet, to: &HostNet, remade: &BTreeSet<PartId>) -> Graph {
    let mut graph = Graph::new();
    let mut removals: BTreeMap<PartId, NodeIndex> = BTreeMap::new();
    let mut additions: BTreeMap<PartId, NodeIndex> = BTreeMap::new();
    let mut changes: BTreeMap<PartId, NodeIndex> = BTreeMap::new();
    for (id, old) in from.parts() {
        match to.get(id) {
            Some(_) if !remade.contains(id) => {}
            _ => drop(removals.insert(id.clone(), graph.add_node(Action::Remove(old.clone())))),
        }
    }
    for (id, new) in to.parts() {
        let old = from.get(id);
        if old.is_none() || remade.contains(id) {
            additions.insert(id.clone(), graph.add_node(Action::Add(new.clone())));
        } else if old != Some(new) {
            changes.insert(id.clone(), graph.add_node(Action::Change(new.clone())));
        }
    }

    for (id, old) in from.parts() {
        for needs in old.needs() {
            let Some(removal) = removals.get(&needs) else { continue };
            // Who needs it lets go first, by being removed or by changing.
            for lets_go in [removals.get(id), changes.get(id)].into_iter().flatten() {
                graph.add_edge(*lets_go, *removal, ());
            }
        }
    }
    for (id, node) in additions.iter().chain(&changes) {
        if let Some(removal) = removals.get(id) {
            graph.add_edge(*removal, *node, ());
        }
        let Some(new) = to.get(id) else { continue };
        for needs in new.needs() {
            if let Some(addition) = additions.get(&needs) {
                graph.add_edge(*addition, *node, ());
            }
        }
        // What only one may have is free once its holder has been removed or changed.
        for holder in new.slots().iter().filter_map(|slot| from.holder(slot)) {
            for frees in [removals.get(holder), changes.get(holder)].into_iter().flatten() {
                if frees != node {
                    graph.add_edge(*frees, *node, ());
                }
            }
        }
    }
    graph
}

/// The actions in an order that keeps every edge: of those that could come next always additions
/// and changes before removals, lower parts before higher ones, and removals the other way round.
///
/// When the graph has a circle, the lowest change in one.
fn order(graph: &Graph) -> Result<Vec<Action>, Option<PartId>> {
    let mut waits: BTreeMap<NodeIndex, usize> = graph
        .node_indices()
        .map(|node| (node, graph.neighbors_directed(node, Direction::Incoming).count()))
        .collect();
    let mut ready: BinaryHeap<(Rank, NodeIndex)> = waits
        .iter()
        .filter(|(_, waits)| **waits == 0)
        .map(|(node, _)| (Rank::of(&graph[*node]), *node))
        .collect();
    let mut actions = Vec::with_capacity(graph.node_count());
    while let Some((_, node)) = ready.pop() {
        actions.push(graph[node].clone());
        for next in graph.neighbors_directed(node, Direction::Outgoing) {
            if let Some(waits) = waits.get_mut(&next) {
                *waits -= 1;
                if *waits == 0 {
                    ready.push((Rank::of(&graph[next]), next));
                }
            }
        }
    }
    if actions.len() == graph.node_count() {
        return Ok(actions);
    }
    let circles = tarjan_scc(graph).into_iter().filter(|nodes| nodes.len() > 1);
    let changes = circles.flatten().filter_map(|node| match &graph[node] {
        Action::Change(part) => Some(part.id()),
        Action::Add(_) | Action::Remove(_) => None,
    });
    Err(changes.min())
}

/// Which of two actions comes first when both could: the greater one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Break(PartId),
    Make(Reverse<PartId>),
}

impl Rank {
    fn of(action: &Action) -> Self {
        match action {
            Action::Add(part) | Action::Change(part) => Self::Make(Reverse(part.id())),
            Action::Remove(part) => Self::Break(part.id()),
        }
    }
}

/// Everything that differs is taken down and built anew: always possible, never gentle.
fn rebuild(from: &HostNet, to: &HostNet) -> Plan {
    let down = from.parts().rev().map(|(_, part)| Action::Remove(part.clone()));
    let up = to.parts().map(|(_, part)| Action::Add(part.clone()));
    Plan::new(down.chain(up))
}
