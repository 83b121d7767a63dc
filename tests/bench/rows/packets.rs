//! What rules cost a packet: datagrams and connections over a link between two namespaces, one pair of them for each sort of
//! rules. All pairs stand at once, so that the samples of a round follow each other, in an order drawn for each.
//!
//! What tells is the time that sender and receiver worked: a link of veth hands a packet over within `sendto`, where the rules are
//! asked, and mostly brings it to the other end's socket there too. Every packet is counted where it arrives. Of two lanes without
//! rules the second shows the noise. `RULES=file:file` adds lanes with rules that nft loads; packets go from 10.99.0.1 to
//! 10.98.0.0/16 and 10.99.0.2, port 7777.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};

use super::lanes::{self, FAR, FLOWS, Lane, PORT, flow};
use crate::Bench;
use crate::dice::Dice;
use crate::report::{Group, Sample, failed};

/// Packets of a sample of an established flow.
const PACKETS: usize = 1_000;
/// Datagrams of a sample with a receiver at work.
const STREAM: usize = 4_000;
/// Connections of a sample: each leaves a port behind for a minute.
const CONNECTIONS: usize = 50;
/// Megabytes of a sample.
const MEGABYTES: usize = 64;
/// How long a packet may be on its way before it counts as lost.
const LOST: Duration = Duration::from_secs(2);

type Measurement = fn(&Lane) -> io::Result<Sample>;

/// A group: its name and title, what is measured, and how much of what that is.
type Sort = (&'static str, &'static str, Measurement, f64, &'static str);

const SORTS: [Sort; 5] = [
    ("packets-established", "1,000 datagrams of an established flow", established, PACKETS as f64, "packets"),
    ("packets-new", "1,000 datagrams that each begin a flow", new, FLOWS as f64, "flows"),
    ("packets-connections", "50 TCP connections, opened and closed", connections, CONNECTIONS as f64, "connections"),
    ("packets-stream", "4,000 datagrams, received meanwhile", stream, STREAM as f64, "packets"),
    ("packets-throughput", "64 MB over a TCP connection", throughput, MEGABYTES as f64, "MB"),
];

pub(crate) fn measure(bench: &Bench) {
    let made = lanes::all(bench);
    for (name, lane) in &made {
        if let Err(why) = lane {
            failed(&format!("packets: {name}"), why);
        }
    }
    for (name, title, sample, amount, unit) in SORTS {
        let mut group = Group::new(name, title, 0, made.iter().map(|(name, _)| name.clone())).of_work(amount, unit);
        for (number, (_, lane)) in made.iter().enumerate() {
            if let Err(why) = lane {
                group.leave_out(number, why);
            }
        }
        let mut dice = Dice::new(name);
        let mut order: Vec<usize> = (0..made.len()).collect();
        for round in 0..=bench.rounds {
            dice.shuffle(&mut order);
            order.retain(|number| !group.has_failed(*number));
            for number in order.iter().copied() {
                let Ok(lane) = &made[number].1 else { continue };
                match sample(lane).map_err(|e| e.to_string()).and_then(|sample| lane.forget().map(|()| sample)) {
                    // The first round warms everything.
                    Ok(sample) if round > 0 => group.add(number, sample),
                    Ok(_) => {}
                    Err(why) => group.fail(number, &why),
                }
            }
        }
        group.publish(&bench.pictures);
    }
}

/// What this thread has worked, in microseconds.
fn worked() -> f64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
    now.tv_sec() as f64 * 1e6 + now.tv_nsec() as f64 / 1e3
}

/// Runs `work` on this thread and says what it took.
fn clocked(work: impl FnOnce() -> io::Result<()>) -> io::Result<Sample> {
    let (begun, before) = (Instant::now(), worked());
    work()?;
    Ok(Sample { us: begun.elapsed().as_nanos() as f64 / 1e3, own: worked() - before, faults: 0 })
}

/// The far end's socket for datagrams, with room for all of a sample.
fn receiver(lane: &Lane) -> io::Result<UdpSocket> {
    let receiver = lane.far.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)))?;
    setsockopt(&receiver, sockopt::RcvBufForce, &(16 << 20))?;
    receiver.set_read_timeout(Some(LOST))?;
    Ok(receiver)
}

/// Takes what has arrived, and finds that it is all.
fn counted(receiver: &UdpSocket, sent: usize) -> io::Result<()> {
    receiver.set_nonblocking(true)?;
    let mut byte = [0];
    let arrived = (0..sent).take_while(|_| receiver.recv(&mut byte).is_ok()).count();
    if arrived == sent { Ok(()) } else { Err(io::Error::other(format!("{arrived} of {sent} packets arrived"))) }
}

/// A flow that was answered, and so is established.
fn flowing(receiver: &UdpSocket) -> io::Result<UdpSocket> {
    let sender = UdpSocket::bind("0.0.0.0:0")?;
    sender.connect((FAR, PORT))?;
    sender.set_read_timeout(Some(LOST))?;
    sender.send(b"?")?;
    let mut byte = [0];
    let (_, from) = receiver.recv_from(&mut byte)?;
    receiver.send_to(b"!", from)?;
    sender.recv(&mut byte)?;
    Ok(sender)
}

fn established(lane: &Lane) -> io::Result<Sample> {
    let receiver = receiver(lane)?;
    lane.near.within(|| {
        let sender = flowing(&receiver)?;
        let sample = clocked(|| (0..PACKETS).try_for_each(|_| sender.send(&[0; 16]).map(drop)))?;
        counted(&receiver, PACKETS).map(|()| sample)
    })
}

fn new(lane: &Lane) -> io::Result<Sample> {
    let receiver = receiver(lane)?;
    lane.near.within(|| {
        let sender = UdpSocket::bind("0.0.0.0:0")?;
        let sample = clocked(|| (0..FLOWS).try_for_each(|n| sender.send_to(&[0; 16], flow(n)).map(drop)))?;
        counted(&receiver, usize::from(FLOWS)).map(|()| sample)
    })
}

fn listener(lane: &Lane) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = lane.far.within(|| TcpListener::bind((FAR, PORT)))?;
    Ok((listener, SocketAddrV4::new(FAR, PORT).into()))
}

fn connections(lane: &Lane) -> io::Result<Sample> {
    let (listener, address) = listener(lane)?;
    lane.near.within(|| {
        clocked(|| {
            (0..CONNECTIONS).try_for_each(|_| {
                let near = TcpStream::connect_timeout(&address, LOST)?;
                let (far, _) = listener.accept()?;
                drop((near, far));
                Ok(())
            })
        })
    })
}

/// Both ends at work: by the clock until the last arrived, and what both worked.
fn both(
    lane: &Lane,
    send: impl FnOnce() -> io::Result<Sample> + Send,
    receive: impl FnOnce() -> io::Result<Sample> + Send,
) -> io::Result<Sample> {
    thread::scope(|scope| {
        let begun = Instant::now();
        let far = scope.spawn(receive);
        let sent = lane.near.within(send);
        let received = far.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let us = begun.elapsed().as_nanos() as f64 / 1e3;
        let (sent, received) = (sent?, received?);
        Ok(Sample { us, own: sent.own + received.own, faults: 0 })
    })
}

fn stream(lane: &Lane) -> io::Result<Sample> {
    let receiver = receiver(lane)?;
    let sender = lane.near.within(|| flowing(&receiver))?;
    let mut byte = [0];
    let receive = || clocked(|| (0..STREAM).try_for_each(|_| receiver.recv(&mut byte).map(drop)));
    both(lane, || clocked(|| (0..STREAM).try_for_each(|_| sender.send(&[0; 16]).map(drop))), receive)
}

fn throughput(lane: &Lane) -> io::Result<Sample> {
    let (listener, address) = listener(lane)?;
    let mut near = lane.near.within(|| TcpStream::connect_timeout(&address, LOST))?;
    let (mut far, _) = listener.accept()?;
    near.set_write_timeout(Some(LOST))?;
    far.set_read_timeout(Some(LOST))?;
    let (mut room, megabyte) = (vec![0; 1 << 16], vec![0; 1_000_000]);
    let receive = || {
        clocked(|| {
            let mut left = MEGABYTES * megabyte.len();
            while left > 0 {
                match far.read(&mut room)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    length => left -= length,
                }
            }
            Ok(())
        })
    };
    both(lane, || clocked(|| (0..MEGABYTES).try_for_each(|_| near.write_all(&megabyte))), receive)
}
