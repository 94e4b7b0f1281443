//! The agents inside guests, as QEMU's own hear: a command in JSON, and an answer.
//!
//! What an agent answers is what the guest chose to say. It is bounded in length and in time, read
//! as what it should be or not at all, and the host never depends on it: a guest that lies has a
//! worse image of itself, and nothing else.
//!
//! That file systems are told to be at rest is written down before, so that a process that ends in
//! the middle of it, or a daemon that is gone when they are to go on, leaves a guest that is told
//! to go on as soon as somebody looks at it again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nova_core::clock::{Clock, ClockExt as _};
use nova_core::domain::{GuestUser, InstanceId, Password};
use nova_core::port::{AskAgents, QUIESCE_PROPERTY, VirtError};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use super::daemon::{Agents, DomainId, DomainState, LibvirtError};
use super::host::{Inner, LibvirtHost, domain_of, host, power};
use super::record::Record;
use crate::domain::DomainSpec;

/// How long an agent may take for an answer, in seconds.
const ANSWER_SECONDS: u32 = 5;

/// How long it may take to put file systems at rest, which have to write all that they hold back.
const FREEZE_SECONDS: u32 = 30;

/// How much longer the daemon may take to say so: it tells the agent to pay attention first.
const DAEMON_SECONDS: u32 = 10;

/// How often an agent is told in a row to let file systems go on. Later it is told again whenever
/// somebody looks at the guest.
const THAWS_MAX: usize = 3;

/// The longest answer that is read, in bytes. Those that are asked for here have a few.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Why an agent did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    /// The daemon has no answer of it.
    #[error("the agent in the guest did not answer")]
    Silent(#[source] LibvirtError),
    /// It took too long, or the daemon did.
    #[error("the agent in the guest took longer than {seconds} seconds")]
    Late {
        /// How long was waited.
        seconds: u32,
    },
    /// It answered something else.
    #[error("the answer of the agent in the guest does not read")]
    Unreadable,
}

/// An answer.
#[derive(Debug, Deserialize)]
struct Answer<T> {
    #[serde(rename = "return")]
    value: T,
}

/// What file systems are, as an agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rest {
    Thawed,
    Frozen,
}

/// An agent, and the way to it.
struct Agent<'a> {
    agents: &'a dyn Agents,
    clock: &'a dyn Clock,
    domain: DomainId,
}

impl Agent<'_> {
    async fn tell<T: DeserializeOwned>(
        &self,
        command: &Value,
        seconds: u32,
    ) -> Result<T, AgentError> {
        let command = command.to_string();
        let answer = self.agents.command(self.domain, &command, seconds);
        let seconds = seconds + DAEMON_SECONDS;
        match self.clock.within(Duration::from_secs(seconds.into()), answer).await {
            Some(Ok(answer)) => read(&answer),
            Some(Err(error)) => Err(AgentError::Silent(error)),
            None => Err(AgentError::Late { seconds }),
        }
    }

    async fn answers(&self) -> Result<(), AgentError> {
        self.tell::<IgnoredAny>(&json!({"execute": "guest-ping"}), ANSWER_SECONDS).await.map(drop)
    }

    async fn rest(&self) -> Result<Rest, AgentError> {
        self.tell(&json!({"execute": "guest-fsfreeze-status"}), ANSWER_SECONDS).await
    }

    /// How many file systems it has put at rest, as it says.
    async fn freeze(&self) -> Result<u64, AgentError> {
        self.tell(&json!({"execute": "guest-fsfreeze-freeze"}), FREEZE_SECONDS).await
    }

    async fn thaw(&self) -> Result<(), AgentError> {
        let command = json!({"execute": "guest-fsfreeze-thaw"});
        self.tell::<IgnoredAny>(&command, ANSWER_SECONDS).await.map(drop)
    }

    async fn set_password(&self, user: &GuestUser, password: &Password) -> Result<(), AgentError> {
        let password = STANDARD.encode(password.as_str());
        let arguments = json!({"username": user.as_str(), "password": password, "crypted": false});
        let command = json!({"execute": "guest-set-user-password", "arguments": arguments});
        self.tell::<IgnoredAny>(&command, ANSWER_SECONDS).await.map(drop)
    }
}

/// What an agent answered, if it is an answer.
fn read<T: DeserializeOwned>(answer: &str) -> Result<T, AgentError> {
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(AgentError::Unreadable);
    }
    let answer: Answer<T> = serde_json::from_str(answer).map_err(|_| AgentError::Unreadable)?;
    Ok(answer.value)
}

/// The guests that somebody is about to tell to go on.
#[derive(Debug, Default)]
pub(super) struct Thaws(Mutex<BTreeSet<InstanceId>>);

impl Thaws {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeSet<InstanceId>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn agent(&self, guest: InstanceId) -> Option<Agent<'_>> {
        let agents = self.daemon().agents()?;
        Some(Agent { agents, clock: &*self.clock, domain: domain_of(guest) })
    }

    /// Has the agent of a guest put its file systems at rest, where it has one. What this gives
    /// back has to be [let go on](Self::let_go_on), also where it did not work.
    ///
    /// # Errors
    /// [`VirtError::NoAgent`] where the guest's image says that no image may be taken otherwise.
    pub(super) async fn put_to_rest(
        self: &Arc<Self>,
        guest: InstanceId,
        state: DomainState,
        domain: &DomainSpec,
        record: Option<Record>,
    ) -> Result<Option<Record>, VirtError> {
        let operation = "put its file systems at rest";
        let Some(mut record) = record else { return Ok(None) };
        // One that is frozen in memory writes nothing, and hears nothing.
        if state != DomainState::Running {
            return Ok(None);
        }
        let required = record.spec.image.properties.says(QUIESCE_PROPERTY);
        let required = required.map_err(host(operation))?;
        let mut told = None;
        let mut rests = false;
        if let Some(agent) = self.agent(guest).filter(|_| domain.has_agent())
            && agent.answers().await.is_ok()
        {
            record.frozen = true;
            self.save(&record).await?;
            // It may have done it though it did not say so.
            rests = agent.freeze().await.is_ok();
            told = Some(record);
        }
        if required && !rests {
            if let Some(record) = told {
                self.let_go_on(record).await;
            }
            return Err(VirtError::NoAgent { instance: guest, operation });
        }
        Ok(told)
    }

    /// Has the agent of a guest let its file systems go on. When it does not say that they do, it
    /// stays written down that they may not.
    pub(super) async fn let_go_on(self: &Arc<Self>, mut record: Record) {
        let Some(agent) = self.agent(record.spec.instance) else { return };
        for _ in 0..THAWS_MAX {
            if agent.thaw().await.is_ok() {
                record.frozen = false;
                // What cannot be written down now is done again, which changes nothing.
                drop(self.save(&record).await);
                return;
            }
        }
    }

    /// Has a guest go on of which is written down that it may not, once nobody works on it.
    pub(super) fn thaw_soon(self: &Arc<Self>, guest: InstanceId) {
        if !self.thaws.with(|thaws| thaws.insert(guest)) {
            return;
        }
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let turn = inner.turns.take(guest).await;
            let running = inner.state(guest).await;
            if let (Ok(Some(DomainState::Running)), Ok(Some(record))) =
                (running, inner.record(guest).await)
                && record.frozen
            {
                inner.let_go_on(record).await;
            }
            inner.thaws.with(|thaws| thaws.remove(&guest));
            drop(turn);
        });
    }

    /// The agent of a guest that runs, if that has a channel to one.
    async fn running_agent(
        self: &Arc<Self>,
        instance: InstanceId,
        operation: &'static str,
    ) -> Result<Option<Agent<'_>>, VirtError> {
        let (state, record) = self.existing(instance).await?;
        if state != DomainState::Running {
            return Err(VirtError::WrongPower { instance, power: power(state), operation });
        }
        let Some(record) = record else { return Ok(None) };
        let has_one = self.domain(&record)?.has_agent();
        Ok(self.agent(instance).filter(|_| has_one))
    }
}

#[async_trait]
impl AskAgents for LibvirtHost {
    async fn answers(&self, instance: InstanceId) -> Result<bool, VirtError> {
        let operation = "ask its agent";
        match self.inner.running_agent(instance, operation).await? {
            Some(agent) => match agent.answers().await {
                Err(AgentError::Silent(error)) if !is_about_agents(&error) => {
                    Err(host(operation)(error))
                }
                answered => Ok(answered.is_ok()),
            },
            None => Ok(false),
        }
    }

    async fn is_frozen(&self, instance: InstanceId) -> Result<bool, VirtError> {
        let operation = "ask whether it is frozen";
        let agent = self.inner.running_agent(instance, operation).await?;
        let agent = agent.ok_or(VirtError::NoAgent { instance, operation })?;
        match agent.rest().await {
            Ok(rest) => Ok(rest == Rest::Frozen),
            Err(error) => Err(refused(instance, operation, error)),
        }
    }

    async fn set_password(
        &self,
        instance: InstanceId,
        user: &GuestUser,
        password: &Password,
    ) -> Result<(), VirtError> {
        let operation = "set a password";
        let agent = self.inner.running_agent(instance, operation).await?;
        let agent = agent.ok_or(VirtError::NoAgent { instance, operation })?;
        let set = agent.set_password(user, password).await;
        set.map_err(|error| refused(instance, operation, error))
    }
}

/// Whether what a daemon refused it refused because of what is inside the guest.
fn is_about_agents(error: &LibvirtError) -> bool {
    // What it refused itself, not connected, no channel, not answering, out of step; and newer
    // daemons have numbers of their own for one that is late or refuses.
    const ABOUT: [i32; 7] = [1, 55, 74, 86, 97, 111, 112];
    matches!(error, LibvirtError::Refused { code, .. } if ABOUT.contains(code))
}

fn refused(instance: InstanceId, operation: &'static str, error: AgentError) -> VirtError {
    match error {
        AgentError::Silent(error) if !is_about_agents(&error) => host(operation)(error),
        _ => VirtError::NoAgent { instance, operation },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use nova_core::memory::VirtualClock;
    use proptest::prelude::*;

    use super::*;

    /// An agent that answers what it is told to, one after the other, and then never again.
    struct Fake {
        answers: Mutex<VecDeque<Result<String, i32>>>,
        heard: Mutex<Vec<String>>,
    }

    impl Fake {
        fn saying(answers: &[&str]) -> Self {
            let answers = answers.iter().map(|answer| Ok((*answer).to_owned())).collect();
            Self { answers: Mutex::new(answers), heard: Mutex::default() }
        }
    }

    #[async_trait]
    impl Agents for Fake {
        async fn command(
            &self,
            _: DomainId,
            command: &str,
            _: u32,
        ) -> Result<String, LibvirtError> {
            self.heard.lock().unwrap().push(command.to_owned());
            let answer = self.answers.lock().unwrap().pop_front();
            match answer {
                Some(Ok(text)) => Ok(text),
                Some(Err(code)) => Err(LibvirtError::Refused { code, message: String::new() }),
                None => std::future::pending().await,
            }
        }
    }

    fn check<T>(fake: &Fake, work: impl AsyncFnOnce(&Agent<'_>) -> T) -> T {
        let clock = Arc::new(VirtualClock::new());
        let agent = Agent { agents: fake, clock: &*clock, domain: [1; 16] };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(clock.drive(work(&agent)))
    }

    #[test]
    fn an_agent_is_told_what_its_protocol_says() {
        let fake = Fake::saying(&[
            "{\"return\": {}}",
            "{\"return\":\"frozen\"}",
            "{\"return\": 3}",
            "{\"return\":0}",
            "{\"return\":{}}",
        ]);
        let (user, password) = (GuestUser::new("root").unwrap(), Password::new("p\"w").unwrap());
        check(&fake, async |agent| {
            agent.answers().await.unwrap();
            assert_eq!(agent.rest().await.unwrap(), Rest::Frozen);
            assert_eq!(agent.freeze().await.unwrap(), 3);
            agent.thaw().await.unwrap();
            agent.set_password(&user, &password).await.unwrap();
        });
        let heard = fake.heard.into_inner().unwrap();
        let heard: Vec<Value> = heard.iter().map(|it| serde_json::from_str(it).unwrap()).collect();
        let told = json!({"username": "root", "password": "cCJ3", "crypted": false});
        let wanted = [
            json!({"execute": "guest-ping"}),
            json!({"execute": "guest-fsfreeze-status"}),
            json!({"execute": "guest-fsfreeze-freeze"}),
            json!({"execute": "guest-fsfreeze-thaw"}),
            json!({"execute": "guest-set-user-password", "arguments": told}),
        ];
        assert_eq!(heard, wanted);
    }

    #[test]
    fn one_that_never_answers_costs_a_wait_that_has_an_end() {
        let fake = Fake::saying(&[]);
        let waited = check(&fake, async |agent| {
            let before = agent.clock.now();
            let silent = agent.freeze().await;
            assert!(matches!(silent, Err(AgentError::Late { .. })), "{silent:?}");
            agent.clock.now().since(before)
        });
        assert_eq!(waited, Duration::from_secs((FREEZE_SECONDS + DAEMON_SECONDS).into()));
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        let deep = format!("{{\"return\":{}", "[".repeat(8000));
        let long = format!("{{\"return\":{{\"a\":\"{}\"}}}}", "x".repeat(ANSWER_BYTES_MAX));
        for text in [
            "",
            "null",
            "{}",
            "[]",
            "{\"return\":",
            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}",
            "{\"return\":\"frozen\"} {\"return\":\"thawed\"}",
            "\u{ff}{\"return\":\"frozen\"}",
            &deep,
            &long,
        ] {
            assert!(read::<Rest>(text).is_err() && read::<u64>(text).is_err(), "{text:.60}");
        }
        assert!(read::<IgnoredAny>(&long).is_err(), "longer than anything that is asked for");
        assert!(read::<IgnoredAny>(&deep).is_err());
        for text in ["{\"return\":-1}", "{\"return\":1e999}", "{\"return\":\"1\"}"] {
            assert!(read::<u64>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_daemon_refuses_because_of_the_guest_is_told_from_the_rest() {
        let guest = InstanceId::from_u128(1);
        for (code, about) in [(86, true), (74, true), (97, true), (42, false), (39, false)] {
            let fake = Fake::saying(&[]);
            fake.answers.lock().unwrap().push_back(Err(code));
            let error = check(&fake, async |agent| agent.rest().await).unwrap_err();
            let told = refused(guest, "test", error);
            assert_eq!(matches!(told, VirtError::NoAgent { .. }), about, "{code}: {told:?}");
        }
    }

    proptest! {
        /// Whatever comes, reading it ends, and only what is written here is an answer.
        #[test]
        fn any_text_is_an_answer_or_is_not(text in prop_oneof![
            ".{0,200}",
            "[\\[\\]{}\":,a-z0-9 ]{0,200}",
            "\\{\"return\": ?(\"frozen\"|\"thawed\"|\"[a-z]{0,8}\"|-?[0-9]{0,30})\\}",
        ]) {
            let rest = read::<Rest>(&text);
            prop_assert_eq!(rest.is_ok(), rest.is_ok() && text.contains("return"));
            if read::<u64>(&text).is_ok() {
                prop_assert!(rest.is_err());
            }
        }
    }
}
