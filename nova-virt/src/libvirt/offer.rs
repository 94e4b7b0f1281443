//! What hosts ask each other: the disks of packed guests, by whoever holds the parcel, and room for
//! guests that run, by whoever holds the invitation.
//!
//! One connection for one question. Both ends prove that they share the parcel's secret, which never
//! crosses the wire itself; the last thing sent is the proof of everything before it, and only when
//! the file was not changed meanwhile. Nothing is hidden: the network between hosts is the
//! operator's, as for memory that moves.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use nova_core::clock::ClockExt as _;
use nova_core::domain::InstanceId;
use nova_core::port::VirtError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::daemon::DomainState;
use super::extents::{Copy, PIECE_MAX, Stamp, read};
use super::host::{Inner, host};
use super::seal::{BYTES, Secret, drawn, same};

/// How long the other end may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Questions that are answered at a time; more wait.
const AT_A_TIME: usize = 8;

/// What a request has: a guest, what is asked, bytes drawn for this once, the proof.
const REQUEST_BYTES: usize = 16 + 4 + BYTES + BYTES;

/// What is asked, where it is not the number of a disk: to make room for a guest that runs.
const ROOM: u32 = u32::MAX;

/// What is proved: that one may ask, what else was said, and that this was the answer.
const ASK: &[u8] = b"ask";
const SAY: &[u8] = b"say";
const TELL: &[u8] = b"tell";

/// The longest of what is said beside disks, in bytes.
const SAID_MAX: usize = 4 << 20;

/// Where a host offers what it packed.
#[derive(Debug)]
pub(super) struct Offers {
    address: SocketAddr,
    listening: OnceCell<Listening>,
}

/// It listens until it is dropped.
#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Offers {
    pub(super) fn at(address: SocketAddr) -> Self {
        Self { address, listening: OnceCell::new() }
    }
}

impl Inner {
    /// The address at which this host offers what it packed, from now on.
    pub(super) async fn offering(self: &Arc<Self>) -> Result<Option<SocketAddr>, VirtError> {
        let Some(offers) = &self.offers else { return Ok(None) };
        let listen = || async {
            let listener = TcpListener::bind(offers.address).await?;
            let address = listener.local_addr()?;
            let task = tokio::spawn(accept(listener, Arc::downgrade(self)));
            Ok::<_, io::Error>(Listening { address, task })
        };
        let listening = offers.listening.get_or_try_init(listen).await;
        Ok(Some(listening.map_err(host("offer what was packed"))?.address))
    }

    /// The secret of a guest's parcels.
    pub(super) fn secret_of(&self, guest: InstanceId) -> Secret {
        self.key.child(&[b"parcel", &guest.as_u128().to_be_bytes()])
    }

    /// The secret of who invites a guest.
    pub(super) fn invitation_of(&self, guest: InstanceId) -> Secret {
        self.key.child(&[b"invitation", &guest.as_u128().to_be_bytes()])
    }

    /// The file of a guest's disk with this number, if it is one that may be brought.
    async fn offered(self: &Arc<Self>, guest: InstanceId, number: u32) -> Option<PathBuf> {
        let (state, record) = self.existing(guest).await.ok()?;
        let record = record.filter(|_| state == DomainState::Off)?;
        let domain = self.domain(&record).ok()?;
        let disk = domain.disks().get(usize::try_from(number).ok()?)?;
        Some(PathBuf::from(&disk.path))
    }
}

async fn accept(listener: TcpListener, inner: Weak<Inner>) {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = listener.accept().await;
        let Some(inner) = inner.upgrade() else { return };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, inner, place));
            }
            // One that was gone already; or too many files are open, which needs time.
            Err(_) => inner.clock.sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Answers one request. Who asks wrongly is told nothing.
async fn serve(mut stream: tokio::net::TcpStream, inner: Arc<Inner>, place: OwnedSemaphorePermit) {
    let Ok(challenge) = drawn() else { return };
    let mut request = [0; REQUEST_BYTES];
    let heard = async {
        stream.write_all(&challenge).await?;
        stream.read_exact(&mut request).await
    };
    if !matches!(inner.clock.within(SILENCE_MAX, heard).await, Some(Ok(_))) {
        return;
    }
    let (asked, proof) = request.split_at(REQUEST_BYTES - BYTES);
    let Ok(proof) = proof.try_into() else { return };
    let Some((guest, rest)) = asked.split_first_chunk() else { return };
    let Some((number, _)) = rest.split_first_chunk() else { return };
    let guest = InstanceId::from_u128(u128::from_be_bytes(*guest));
    let number = u32::from_be_bytes(*number);
    let secret = if number == ROOM { inner.invitation_of(guest) } else { inner.secret_of(guest) };
    let opening = [&challenge[..], asked].concat();
    if !same(&secret.prove(&[ASK, &opening]), proof) {
        return;
    }
    // It is the other end that has to know how it went.
    if number == ROOM {
        let _: io::Result<()> = make_room(&mut stream, &inner, guest, &secret, &opening).await;
    } else {
        let _: io::Result<()> = send_disk(stream, &inner, guest, number, &secret, &opening).await;
    }
    drop(place);
}

/// Hears how a guest is to be made that runs elsewhere, and tells where its memory may come.
async fn make_room(
    stream: &mut tokio::net::TcpStream,
    inner: &Arc<Inner>,
    guest: InstanceId,
    secret: &Secret,
    opening: &[u8],
) -> io::Result<()> {
    let mut said = Vec::new();
    let mut proof = [0; BYTES];
    let heard = async {
        let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
        if length > SAID_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        said.resize(length, 0);
        stream.read_exact(&mut said).await?;
        stream.read_exact(&mut proof).await
    };
    let silent = || io::Error::from(io::ErrorKind::TimedOut);
    inner.clock.within(SILENCE_MAX, heard).await.ok_or_else(silent)??;
    if !same(&secret.prove(&[SAY, opening, &said]), &proof) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let answer = inner.room(guest, &said).await;
    let length = u32::try_from(answer.len()).unwrap_or(u32::MAX).to_be_bytes();
    let proof = secret.prove(&[TELL, opening, &answer]);
    stream.write_all(&[&length[..], &answer, &proof].concat()).await
}

async fn send_disk(
    stream: tokio::net::TcpStream,
    inner: &Arc<Inner>,
    guest: InstanceId,
    number: u32,
    secret: &Secret,
    opening: &[u8],
) -> io::Result<()> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let path = inner.offered(guest, number).await.ok_or_else(gone)?;
    let stream = stream.into_std()?;
    let mut seal = secret.seal();
    [TELL, opening].iter().for_each(|part| seal.update(part));
    let send = move || {
        stream.set_nonblocking(false)?;
        patient(&stream)?;
        let file = File::open(&path)?;
        let before = Stamp::of(&file)?;
        let mut say = |bytes: &[u8]| {
            seal.update(bytes);
            (&stream).write_all(bytes)
        };
        read(&file, |at, bytes| {
            say(&at.to_be_bytes())?;
            say(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes())?;
            say(bytes)
        })?;
        say(&before.length().to_be_bytes())?;
        say(&0_u32.to_be_bytes())?;
        // Of one that changed there is no proof.
        if Stamp::of(&file)? == before { (&stream).write_all(&seal.finish()) } else { Ok(()) }
    };
    crate::files::off_thread(send, |torn| torn).await
}

/// Gives up an end that says nothing. The kernel counts: a thread that waits for it cannot.
fn patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))
}

/// Asks another host: the connection, and how the talk on it began.
fn ask(
    from: SocketAddr,
    secret: &Secret,
    guest: InstanceId,
    number: u32,
) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&from, SILENCE_MAX)?;
    patient(&stream)?;
    let mut opening = vec![0; BYTES];
    stream.read_exact(&mut opening)?;
    opening.extend(guest.as_u128().to_be_bytes());
    opening.extend(number.to_be_bytes());
    opening.extend(drawn()?);
    let proof = secret.prove(&[ASK, &opening]);
    stream.write_all(&[&opening[BYTES..], &proof].concat())?;
    Ok((stream, opening))
}

/// Says how a guest that runs here is to be made by the host that expects it, and hears its answer.
pub(super) fn ask_for_room(
    to: SocketAddr,
    secret: &Secret,
    guest: InstanceId,
    said: &[u8],
) -> io::Result<Vec<u8>> {
    let (mut stream, opening) = ask(to, secret, guest, ROOM)?;
    let length = u32::try_from(said.len()).unwrap_or(u32::MAX).to_be_bytes();
    let proof = secret.prove(&[SAY, &opening, said]);
    stream.write_all(&[&length[..], said, &proof].concat())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > SAID_MAX {
        return Err(wrong("its answer is too long"));
    }
    let (mut answer, mut proof) = (vec![0; length], [0; BYTES]);
    stream.read_exact(&mut answer)?;
    stream.read_exact(&mut proof)?;
    if !same(&secret.prove(&[TELL, &opening, &answer]), &proof) {
        return Err(wrong("the other host did not send this"));
    }
    Ok(answer)
}

fn wrong(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Brings the file of a guest's disk from the host that offers it, with its holes.
///
/// # Errors
/// With [`InvalidData`](io::ErrorKind::InvalidData) when it is not what that host has.
pub(super) fn bring(
    from: SocketAddr,
    secret: &Secret,
    guest: InstanceId,
    number: u32,
    into: &Path,
    length: u64,
) -> io::Result<()> {
    let (mut stream, opening) = ask(from, secret, guest, number)?;
    let mut seal = secret.seal();
    [TELL, &opening].iter().for_each(|part| seal.update(part));
    let mut copy = Copy::of(into, length)?;
    let mut piece = vec![0; PIECE_MAX];
    loop {
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        seal.update(&head);
        let [a, b, c, d, e, f, g, h, i, j, k, l] = head;
        let at = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let count = usize::try_from(u32::from_be_bytes([i, j, k, l])).unwrap_or(usize::MAX);
        if count == 0 {
            if at != length {
                return Err(wrong("it has another length than was said"));
            }
            break;
        }
        let bytes = piece.get_mut(..count).ok_or_else(|| wrong("a piece of it is too long"))?;
        stream.read_exact(bytes)?;
        seal.update(bytes);
        copy.write(at, bytes)?;
    }
    let mut proof = [0; BYTES];
    stream.read_exact(&mut proof)?;
    if !same(&seal.finish(), &proof) {
        return Err(wrong("the other host did not send this"));
    }
    copy.finish()
}
