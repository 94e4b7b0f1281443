//! What is asked of the guests themselves.

use std::time::Duration;

use nova_core::clock::ClockExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Result;
use super::ground::Ground;

/// How long a guest may take until it answers.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(5);

/// How often a guest is asked that does not answer yet.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

impl Ground {
    /// Waits until a guest answers; what it says.
    pub(super) async fn answers(&self, address: &str, path: &str) -> Result<String> {
        self.comes_to_say(address, path, |_| true).await
    }

    /// Waits until a guest says something of which this is true.
    pub(super) async fn comes_to_say(
        &self,
        address: &str,
        path: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let end = self.clock.now().after(PATIENCE);
        loop {
            let said = self.get(address, path).await;
            match said {
                Ok(said) if is_it(&said) => return Ok(said),
                said if self.clock.now() >= end => {
                    let said = said.unwrap_or_else(|error| error.to_string());
                    return Err(format!("{address}{path} goes on to say: {}", said.trim()).into());
                }
                _ => self.clock.sleep(AGAIN).await,
            }
        }
    }

    /// What a guest says, once.
    pub(super) async fn get(&self, address: &str, path: &str) -> Result<String> {
        let asked = async {
            let mut stream = TcpStream::connect((address, 80)).await?;
            let question = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
            stream.write_all(question.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = self.clock.within(QUESTION, asked).await.ok_or("it takes too long")??;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("it does not speak HTTP")?;
        if head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200") {
            return Ok(body.to_owned());
        }
        Err(format!("it says {}", head.lines().next().unwrap_or_default()).into())
    }

    /// What is heard outside under an address; nothing when nobody answers.
    pub(super) fn outside_asks(&self, address: &str) -> String {
        super::neighbour::heard_in(super::ground::OUTSIDE, address, "/")
    }
}
