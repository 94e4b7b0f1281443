//! Somebody between a driver and its daemon, who counts the calls and does something at one of them.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The moment at which something is done, by the number of the call, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The daemon does not hear the call.
    Before(u32),
    /// The daemon has done it, and nobody hears that.
    After(u32),
}

/// What is done besides that the connection ends.
type Then = Box<dyn Fn() + Send>;

#[derive(Default)]
struct State {
    calls: u32,
    moment: Option<(Moment, Then)>,
    /// The call whose answer is not let through, by its serial.
    silent: Option<u32>,
    happened: bool,
}

/// It listens for as long as the test runs.
#[derive(Clone)]
pub(crate) struct Proxy {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Listens in the folder, before the daemon of this world.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let socket = folder.join("proxy");
        let listener = UnixListener::bind(&socket).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let proxy = Self { socket, state: Arc::clone(&state) };
        std::thread::spawn(move || {
            for driver in listener.incoming() {
                serve(driver.unwrap(), &state);
            }
        });
        proxy
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// From now on calls are counted anew, and this happens at one of them.
    pub(crate) fn at(&self, moment: Moment, then: impl Fn() + Send + 'static) {
        *self.state.lock().unwrap() =
            State { moment: Some((moment, Box::new(then))), ..State::default() };
    }

    /// Whether it happened. It does not happen any more.
    pub(crate) fn rest(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.moment = None;
        state.happened
    }
}

fn serve(driver: UnixStream, state: &Arc<Mutex<State>>) {
    let daemon = UnixStream::connect("/run/libvirt/libvirt-sock").unwrap();
    let ends = [driver.try_clone().unwrap(), daemon.try_clone().unwrap()];
    let end = move || {
        for end in &ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    };
    let end = Arc::new(end);
    let (asked, cut) = (Arc::clone(state), Arc::clone(&end));
    let (mut from, mut to) = (driver.try_clone().unwrap(), daemon.try_clone().unwrap());
    std::thread::spawn(move || {
        while let Some(message) = receive(&mut from) {
            if !asked.lock().unwrap().lets_ask(&message) || to.write_all(&message).is_err() {
                break;
            }
        }
        cut();
    });
    let (answered, mut from, mut to) = (Arc::clone(state), daemon, driver);
    std::thread::spawn(move || {
        while let Some(message) = receive(&mut from) {
            if !answered.lock().unwrap().lets_answer(&message) || to.write_all(&message).is_err() {
                break;
            }
        }
        end();
    });
}

impl State {
    fn lets_ask(&mut self, message: &[u8]) -> bool {
        let number = self.calls;
        self.calls += 1;
        match &self.moment {
            Some((Moment::Before(at), then)) if *at == number => {
                then();
                self.happened = true;
                false
            }
            Some((Moment::After(at), _)) if *at == number => {
                self.silent = Some(serial(message));
                true
            }
            _ => true,
        }
    }

    fn lets_answer(&mut self, message: &[u8]) -> bool {
        const REPLY: u8 = 1;
        if message[19] != REPLY || self.silent != Some(serial(message)) {
            return true;
        }
        // Another connection counts from the beginning.
        self.silent = None;
        if let Some((_, then)) = &self.moment {
            then();
            self.happened = true;
        }
        false
    }
}

/// The number that a call and its answer have in common.
fn serial(message: &[u8]) -> u32 {
    u32::from_be_bytes(message[20..24].try_into().unwrap())
}

/// A whole message, with its length before it.
fn receive(from: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let mut message = length.to_vec();
    message.resize(usize::try_from(u32::from_be_bytes(length)).unwrap(), 0);
    from.read_exact(&mut message[4..]).ok()?;
    Some(message)
}
