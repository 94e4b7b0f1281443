//! The agents in simulated guests: one that is made of an image that asks for one has one, which
//! answers while the guest runs. Passwords are taken and forgotten.

use async_trait::async_trait;
use nova_core::domain::{GuestUser, InstanceId, Password, PowerState};
use nova_core::port::{AGENT_PROPERTY, AskAgents, VirtError};

use super::SimHost;
use super::options::Verb;
use super::state::State;

impl State {
    /// Whether a guest that runs has an agent.
    fn has_agent(&mut self, instance: InstanceId, verb: Verb) -> Result<bool, VirtError> {
        let guest = self.existing(instance)?;
        match guest.power {
            PowerState::Running => {
                let image = guest.spec.as_ref().map(|spec| &spec.image);
                Ok(image
                    .is_some_and(|image| image.properties.says(AGENT_PROPERTY).unwrap_or(false)))
            }
            power => Err(VirtError::WrongPower { instance, power, operation: verb.name() }),
        }
    }

    fn agent(&mut self, instance: InstanceId, verb: Verb) -> Result<(), VirtError> {
        match self.has_agent(instance, verb)? {
            true => Ok(()),
            false => Err(VirtError::NoAgent { instance, operation: verb.name() }),
        }
    }
}

#[async_trait]
impl AskAgents for SimHost {
    async fn answers(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.call(Verb::AskAgent, move |state| state.has_agent(instance, Verb::AskAgent)).await
    }

    async fn is_frozen(&self, instance: InstanceId) -> Result<bool, VirtError> {
        self.call(Verb::AskAgent, move |state| {
            state.agent(instance, Verb::AskAgent)?;
            Ok(false)
        })
        .await
    }

    async fn set_password(
        &self,
        instance: InstanceId,
        _: &GuestUser,
        _: &Password,
    ) -> Result<(), VirtError> {
        self.call(Verb::SetPassword, move |state| state.agent(instance, Verb::SetPassword)).await
    }
}
