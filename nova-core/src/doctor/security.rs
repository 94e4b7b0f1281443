//! What must be true of security groups.

use std::collections::BTreeSet;

use crate::doctor::Snapshot;
use crate::domain::{ProjectId, SecurityGroupId};

/// Every group that a server or a rule relies on is there, and of the same project, but for default
/// groups, which need no record; an interface is in the groups of its server.
pub(super) fn security_groups_are_there(s: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    let groups = s.security_groups.iter().map(|group| (group.id, &group.project));
    let groups: BTreeSet<_> = groups.collect();
    let is_there = |group: SecurityGroupId, project: &ProjectId| {
        groups.contains(&(group, project)) || group == SecurityGroupId::default_of(project)
    };
    for server in &s.instances {
        let gone = |group: &&_| !is_there(**group, &server.project);
        for group in server.security_groups.iter().filter(gone) {
            wrong.push(format!("server {} is in security group {group}, which is gone", server.id));
        }
        for port in s.ports.iter().filter(|port| port.instance == server.id) {
            if port.security_groups != server.security_groups {
                let (server, at) = (server.id, port.address);
                wrong.push(format!("{at} of server {server} is in other security groups than it"));
            }
        }
    }
    for group in &s.security_groups {
        for peer in group.peers().filter(|peer| !is_there(*peer, &group.project)) {
            wrong
                .push(format!("a rule of security group {} names {peer}, which is gone", group.id));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Label, Peer, SecurityGroup, SecurityRule, Traffic};

    #[test]
    fn a_rule_that_names_a_group_of_nobody_or_of_another_project_is_found() {
        let shop = ProjectId::new("shop").unwrap();
        let (id, own) = (SecurityGroupId::from_u128(1), SecurityGroupId::default_of(&shop));
        let naming = |peer: SecurityGroupId| {
            let rule = SecurityRule::new(Traffic::Any, Peer::Group(peer)).unwrap();
            let (project, name) = (shop.clone(), Label::new("web").unwrap());
            let group = SecurityGroup { id, project, name, rules: BTreeSet::from([rule]) };
            Snapshot { security_groups: vec![group], ..Snapshot::default() }
        };
        for whole in [id, own] {
            assert_eq!(security_groups_are_there(&naming(whole)), Vec::<String>::new());
        }
        let bank = SecurityGroupId::default_of(&ProjectId::new("bank").unwrap());
        for strange in [SecurityGroupId::from_u128(2), bank] {
            assert_eq!(security_groups_are_there(&naming(strange)).len(), 1, "{strange}");
        }
    }
}
