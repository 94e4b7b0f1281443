//! What a project may do with security groups.
//!
//! Everything here is written at once. The operation that begins with a change lets the hosts of
//! the project's servers follow, and has ended when all have that can be reached. Servers that come
//! and go are known to other hosts with the next sweep of these.

use std::collections::BTreeSet;

use crate::cloud::api::Plan;
use crate::cloud::api::project::Project;
use crate::cloud::api::specs::ServerSpec;
use crate::cloud::api::views::Accepted;
use crate::cloud::error::ApiError;
use crate::cloud::view::View;
use crate::domain::{
    Instance, InstanceId, Invalid, Label, OpId, OpKind, Peer, Port, Quantum, RequestId,
    SecurityGroup, SecurityGroupId, SecurityRule,
};
use crate::store::record::keys;
use crate::store::{Txn, Versioned};

impl Project {
    /// Its security groups, sorted by id. The default one is always among them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn security_groups(&self) -> Result<Vec<SecurityGroup>, ApiError> {
        let view = self.door.fresh().await?;
        let mut groups: Vec<_> = self.own_groups(&view).map(|group| group.value.clone()).collect();
        if !groups.iter().any(SecurityGroup::is_default) {
            groups.push(SecurityGroup::default_of(&self.id));
        }
        groups.sort_by_key(|group| group.id);
        Ok(groups)
    }

    /// Makes a security group without rules: its members may be sent nothing.
    ///
    /// # Errors
    /// [`ApiError::OverQuota`].
    pub async fn create_security_group(
        &self,
        request: RequestId,
        name: &Label,
    ) -> Result<SecurityGroupId, ApiError> {
        let id = self.door.draw(SecurityGroupId::draw);
        accept!(self, request, "create security group", name, {
            let view = self.door.fresh().await?;
            let others = self.own_groups(&view).filter(|group| !group.value.is_default()).count();
            // The default group counts whether it was ever needed or not.
            view.quota(&self.id).admits(Quantum::SecurityGroups, others as u64 + 1, 1)?;
            let mut txn = Txn::new();
            self.touch(&view, &mut txn);
            let (project, name) = (self.id.clone(), name.clone());
            txn.create(&SecurityGroup { id, project, name, rules: BTreeSet::new() });
            Ok(Plan::now(id, txn))
        })
    }

    /// Removes a security group.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::InUse`] while a server is in it or a rule of another
    /// group names it; [`ApiError::Unsuitable`] for the default group.
    pub async fn delete_security_group(
        &self,
        request: RequestId,
        id: SecurityGroupId,
    ) -> Result<(), ApiError> {
        accept!(self, request, "delete security group", &id, {
            if id == SecurityGroupId::default_of(&self.id) {
                let reason = "it is the default group".to_owned();
                return Err(ApiError::Unsuitable { what: format!("security group {id}"), reason });
            }
            let view = self.door.fresh().await?;
            let group = self.own_group(&view, id)?;
            let member = view.instances.values().find(|i| i.value.security_groups.contains(&id));
            let mut others = self.own_groups(&view).filter(|other| other.value.id != id);
            let naming = others.find(|other| other.value.peers().any(|peer| peer == id));
            let by = match (member, naming) {
                (Some(member), _) => Some(format!("server {}", member.value.id)),
                (None, Some(other)) => Some(format!("security group {}", other.value.id)),
                (None, None) => None,
            };
            if let Some(by) = by {
                return Err(ApiError::InUse { what: "security group", id: id.to_string(), by });
            }
            let mut txn = Txn::new();
            txn.remove(group);
            Ok(Plan::now((), txn))
        })
    }

    /// Lets the members of a group be sent something more. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for the group, and for one that the rule names;
    /// [`ApiError::OverQuota`]; [`ApiError::Invalid`] beyond [`SecurityGroup::RULES_MAX`] rules.
    pub async fn add_security_rule(
        &self,
        request: RequestId,
        group: SecurityGroupId,
        rule: &SecurityRule,
    ) -> Result<Accepted<SecurityGroupId>, ApiError> {
        accept!(self, request, "add security rule", &(group, rule), {
            let view = self.door.fresh().await?;
            let mut txn = Txn::new();
            let mut changed = self.wanted_group(&view, group)?;
            if let Peer::Group(peer) = rule.from()
                && peer != group
            {
                self.enter(&view, peer, &mut txn)?;
            }
            if !changed.rules.contains(rule) {
                let rules = changed.rules.len();
                view.quota(&self.id).admits(Quantum::SecurityGroupRules, rules as u64, 1)?;
                if rules >= SecurityGroup::RULES_MAX {
                    let allowed = "at most 1000 rules in a group";
                    return Err(Invalid::new("security group.rules", rules + 1, allowed).into());
                }
                changed.rules.insert(rule.clone());
            }
            Ok(self.spread(&view, changed, txn))
        })
    }

    /// Lets the members of a group be sent something no more; connections that relied on it end.
    /// Repeating it changes nothing.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for the group.
    pub async fn remove_security_rule(
        &self,
        request: RequestId,
        group: SecurityGroupId,
        rule: &SecurityRule,
    ) -> Result<Accepted<SecurityGroupId>, ApiError> {
        accept!(self, request, "remove security rule", &(group, rule), {
            let view = self.door.fresh().await?;
            let mut changed = self.wanted_group(&view, group)?;
            changed.rules.remove(rule);
            Ok(self.spread(&view, changed, Txn::new()))
        })
    }

    /// Puts a server into these security groups and no others. In none it may be sent nothing.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for the server or a group; [`ApiError::Invalid`] for more than
    /// [`ServerSpec::SECURITY_GROUPS_MAX`].
    pub async fn set_security_groups(
        &self,
        request: RequestId,
        server: InstanceId,
        groups: &BTreeSet<SecurityGroupId>,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        few(groups)?;
        accept!(self, request, "set security groups", &(server, groups), {
            let view = self.door.fresh().await?;
            let instance = self.own(&view, server)?;
            let mut txn = Txn::new();
            for group in groups.difference(&instance.value.security_groups) {
                self.enter(&view, *group, &mut txn)?;
            }
            let security_groups = groups.clone();
            txn.replace(instance, &Instance { security_groups, ..instance.value.clone() });
            for port in view.port_records_of(server) {
                let security_groups = groups.clone();
                txn.replace(port, &Port { security_groups, ..port.value.clone() });
            }
            let operation = self.follow(&mut txn);
            Ok(Plan { answer: Accepted { id: server, operation }, txn, wake: Some(operation) })
        })
    }

    /// The security groups of a new server, which are there as long as it is.
    pub(crate) fn groups_of(
        &self,
        view: &View,
        spec: &ServerSpec,
        txn: &mut Txn,
    ) -> Result<BTreeSet<SecurityGroupId>, ApiError> {
        let mut groups = spec.security_groups.clone();
        few(&groups)?;
        if groups.is_empty() {
            groups.insert(SecurityGroupId::default_of(&self.id));
        }
        groups.iter().try_for_each(|group| self.enter(view, *group, txn))?;
        Ok(groups)
    }

    /// Sees to it that a group does not go away while somebody begins to rely on it. The default
    /// group never goes.
    fn enter(&self, view: &View, id: SecurityGroupId, txn: &mut Txn) -> Result<(), ApiError> {
        if id != SecurityGroupId::default_of(&self.id) {
            let group = self.own_group(view, id)?;
            // Written as it is: a deletion that has not seen who relies on it conflicts.
            txn.replace(group, &group.value);
        }
        Ok(())
    }

    /// A group as it is; the default one also when nobody has changed it yet.
    fn wanted_group(&self, view: &View, id: SecurityGroupId) -> Result<SecurityGroup, ApiError> {
        match self.own_group(view, id) {
            Ok(group) => Ok(group.value.clone()),
            Err(_) if id == SecurityGroupId::default_of(&self.id) => {
                Ok(SecurityGroup::default_of(&self.id))
            }
            Err(error) => Err(error),
        }
    }

    /// Puts a group that has changed into `txn`, and lets the hosts follow.
    fn spread(
        &self,
        view: &View,
        group: SecurityGroup,
        mut txn: Txn,
    ) -> Plan<Accepted<SecurityGroupId>> {
        let needed = group != SecurityGroup::default_of(&self.id);
        match view.security_groups.get(&keys::security_group(group.id)) {
            Some(known) if needed => txn.replace(known, &group),
            Some(known) => txn.remove(known),
            None if needed => txn.create(&group),
            None => &mut txn,
        };
        let operation = self.follow(&mut txn);
        Plan { answer: Accepted { id: group.id, operation }, txn, wake: Some(operation) }
    }

    fn follow(&self, txn: &mut Txn) -> OpId {
        self.door.begin(Some(&self.id), OpKind::ApplySecurityGroups, (0, None), txn)
    }

    fn own_groups<'a>(
        &'a self,
        view: &'a View,
    ) -> impl Iterator<Item = &'a Versioned<SecurityGroup>> {
        view.security_groups.values().filter(|group| group.value.project == self.id)
    }

    fn own_group<'a>(
        &self,
        view: &'a View,
        id: SecurityGroupId,
    ) -> Result<&'a Versioned<SecurityGroup>, ApiError> {
        let own = view.security_groups.get(&keys::security_group(id));
        let own = own.filter(|group| group.value.project == self.id);
        own.ok_or_else(|| ApiError::not_found("security group", id))
    }
}

/// Whether a server may be in so many groups.
fn few(groups: &BTreeSet<SecurityGroupId>) -> Result<(), Invalid> {
    match groups.len() {
        0..=ServerSpec::SECURITY_GROUPS_MAX => Ok(()),
        count => Err(Invalid::new("server.security_groups", count, "at most 16")),
    }
}
