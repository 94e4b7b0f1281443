//! The agents in guests in memory: one that is made of an image that asks for one has one, which
//! answers while the guest runs and does what it is told.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Kept, MemoryHost};
use crate::domain::{GuestUser, InstanceId, Password, PowerState};
use crate::port::{AGENT_PROPERTY, AskAgents, GuestSpec, VirtError};

/// The agent in a guest.
#[derive(Debug, Default, Clone)]
pub(super) struct Agent {
    there: bool,
    passwords: BTreeMap<GuestUser, Password>,
}

impl Agent {
    pub(super) const NONE: Self = Self { there: false, passwords: BTreeMap::new() };

    pub(super) fn of(spec: &GuestSpec) -> Self {
        let there = spec.image.properties.says(AGENT_PROPERTY).unwrap_or(false);
        Self { there, ..Self::NONE }
    }
}

impl MemoryHost {
    /// The password that the agent of a guest was last told for a user; none when it was told none.
    pub fn password(&self, instance: InstanceId, user: &GuestUser) -> Option<Password> {
        self.guests().get(&instance)?.agent.passwords.get(user).cloned()
    }

    /// Work for the agent of a guest that runs.
    fn with_agent<T>(
        &self,
        instance: InstanceId,
        operation: &'static str,
        work: impl FnOnce(&mut Kept) -> Result<T, VirtError>,
    ) -> Result<T, VirtError> {
        self.with(instance, |guest| match guest.power {
            PowerState::Running => work(guest),
            power => Err(VirtError::WrongPower { instance, power, operation }),
        })
    }
}

#[async_trait]
impl AskAgents for MemoryHost {
    async fn answers(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.with_agent(instance, "ask its agent", |guest| Ok(guest.agent.there))
    }

    async fn is_frozen(&self, instance: InstanceId) -> Result<bool, VirtError> {
        let operation = "ask whether it is frozen";
        self.with_agent(instance, operation, |guest| match guest.agent.there {
            true => Ok(false),
            false => Err(VirtError::NoAgent { instance, operation }),
        })
    }

    async fn set_password(
        &self,
        instance: InstanceId,
        user: &GuestUser,
        password: &Password,
    ) -> Result<(), VirtError> {
        let operation = "set a password";
        self.with_agent(instance, operation, |guest| match guest.agent.there {
            true => {
                guest.agent.passwords.insert(user.clone(), password.clone());
                Ok(())
            }
            false => Err(VirtError::NoAgent { instance, operation }),
        })
    }
}
