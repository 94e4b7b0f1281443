//! What an agent answers when it is asked about its host. Nothing that is recorded is changed by it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Hand;
use crate::cloud::error::chain;
use crate::cloud::order::{ConsoleText, Listing, Question, Told, Untold};
use crate::domain::{GuestUser, InstanceId, Password};
use crate::port::{GuestUse, VirtError};

impl Hand {
    /// The answer to a question, as bytes.
    pub(super) async fn answer(&self, question: Question) -> Option<Vec<u8>> {
        let answer = match question {
            Question::Inventory => serde_json::to_vec(&self.inventory().await),
            Question::Console { instance, bytes } => {
                serde_json::to_vec(&self.console(instance, bytes).await)
            }
            Question::Use { instance } => serde_json::to_vec(&self.use_of(instance).await),
            Question::Agent { instance } => serde_json::to_vec(&self.has_agent(instance).await),
            Question::Password { instance, user, password } => {
                serde_json::to_vec(&self.set_password(instance, &user, &password).await)
            }
        };
        answer.ok()
    }

    /// What is on the host, as its driver sees it.
    async fn inventory(&self) -> Listing {
        match self.in_time(self.driver.guests()).await {
            Ok(guests) => guests.map_err(|error| chain(&error)),
            Err(late) => Err(late.reason().to_owned()),
        }
    }

    async fn console(&self, instance: InstanceId, bytes: usize) -> Told<ConsoleText> {
        let reading = self.driver.reading().ok_or(Untold::Unable)?;
        let log = self.told_of(reading.console_log(instance, bytes)).await?;
        Ok(STANDARD.encode(log))
    }

    async fn use_of(&self, instance: InstanceId) -> Told<GuestUse> {
        let measuring = self.driver.measuring().ok_or(Untold::Unable)?;
        self.told_of(measuring.use_of(instance)).await
    }

    async fn has_agent(&self, instance: InstanceId) -> Told<bool> {
        let agents = self.driver.agents().ok_or(Untold::Unable)?;
        self.told_of(agents.answers(instance)).await
    }

    async fn set_password(
        &self,
        instance: InstanceId,
        user: &GuestUser,
        password: &Password,
    ) -> Told<()> {
        let agents = self.driver.agents().ok_or(Untold::Unable)?;
        self.told_of(agents.set_password(instance, user, password)).await
    }

    /// What the driver says of a guest, in time.
    async fn told_of<T: Send>(
        &self,
        work: impl Future<Output = Result<T, VirtError>> + Send,
    ) -> Told<T> {
        match self.in_time(work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(VirtError::NoSuchGuest { .. })) => Err(Untold::NoSuchGuest),
            Ok(Err(error)) => Err(Untold::Failed(chain(&error))),
            Err(late) => Err(Untold::Failed(late.reason().to_owned())),
        }
    }
}
