//! UDP: threads that block in the kernel, one socket each, the kernel spreading the clients over
//! them (SO_REUSEPORT).

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crate::answers::Transport;
use crate::forwarder::Permit;

use super::counters::Counters;
use super::handle::{Outcome, handle};
use super::mmsg::{BUFFER_OCTETS, Batch, Local, prepare, send_one};
use super::{BindError, Shared, bind_error, header_rcode, open};

/// Datagrams per system call.
const BATCH: usize = 32;
/// How often an idle worker looks whether it should end.
const STOP_CHECK: Duration = Duration::from_millis(200);
/// What the kernel may hold for a worker that is busy.
const RECEIVE_BUFFER_OCTETS: usize = 1 << 20;

/// A bound socket and where it is bound.
pub(super) struct UdpListener {
    socket: Arc<UdpSocket>,
    pub(super) address: SocketAddr,
}

pub(super) fn bind(address: SocketAddr) -> Result<(UdpListener, SocketAddr), BindError> {
    let error = bind_error(address, "UDP");
    let socket = open(address, socket2::Protocol::UDP).map_err(&error)?;
    prepare(socket.as_fd(), &address).map_err(&error)?;
    socket.set_read_timeout(Some(STOP_CHECK)).map_err(&error)?;
    // The kernel caps what it gives; less than asked for is no reason not to serve.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_OCTETS);
    let socket = UdpSocket::from(socket);
    let address = socket.local_addr().map_err(&error)?;
    let listener = UdpListener {
        socket: Arc::new(socket),
        address,
    };
    Ok((listener, address))
}

/// Answers until the server stops.
pub(super) fn serve(shared: &Arc<Shared>, listener: &UdpListener, counters: &Arc<Counters>) {
    let mut batch = Batch::new(BATCH);
    let mut responses = Vec::with_capacity(BATCH);
    while !shared.stop.is_cancelled() {
        if let Err(error) = batch.receive(listener.socket.as_fd()) {
            match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => {}
                _ => {
                    tracing::debug!(%error, address = %listener.address, "receiving");
                    // An error that stays must not keep a core busy.
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            continue;
        }
        let snapshot = shared.served.load();
        responses.clear();
        for (position, datagram) in batch.datagrams().enumerate() {
            let buffer = datagram.buffer;
            let outcome = handle(
                shared,
                &snapshot,
                buffer.as_mut_slice(),
                datagram.len,
                Transport::Udp,
                counters,
            );
            match outcome {
                Outcome::Nothing => {}
                Outcome::InPlace(len) => responses.push((position, len.min(BUFFER_OCTETS))),
                Outcome::Respond(response) => {
                    let len = response.len().min(BUFFER_OCTETS);
                    for (slot, octet) in buffer.iter_mut().zip(&response) {
                        *slot = *octet;
                    }
                    responses.push((position, len));
                }
                Outcome::Forward => {
                    let message = buffer.get(..datagram.len).unwrap_or_default();
                    forward(
                        shared,
                        listener,
                        message,
                        datagram.peer,
                        datagram.local,
                        counters,
                    );
                }
            }
        }
        drop(snapshot);
        let sent = batch.respond(listener.socket.as_fd(), &responses);
        counters.unsent((responses.len() - sent) as u64);
    }
}

/// Has a task on tokio ask the upstreams and send the response; beyond the bound of the forwarder
/// the client is told at once, so that it goes to its next server without waiting.
fn forward(
    shared: &Arc<Shared>,
    listener: &UdpListener,
    message: &[u8],
    peer: SocketAddr,
    local: Option<Local>,
    counters: &Arc<Counters>,
) {
    let rules = shared.rules.load();
    let message = message.to_vec();
    let socket = Arc::clone(&listener.socket);
    let counters = Arc::clone(counters);
    let policy = rules.policy;
    match rules.forwarder.as_ref().map(|one| (one, one.admit())) {
        Some((forwarder, Permit::Granted(permit))) => {
            counters.forwarded();
            let forwarder = Arc::clone(forwarder);
            let task = async move {
                let response = forwarder
                    .forward(&message, Transport::Udp, &policy, permit)
                    .await;
                finish(&socket, &response, peer, local, &counters);
            };
            shared.tasks.spawn_on(task, &shared.runtime);
        }
        // Without room, or by rules that stopped forwarding a moment ago.
        _ => {
            counters.shed();
            if let Some(response) = crate::forwarder::servfail(&message, Transport::Udp, &policy) {
                finish(&socket, &response, peer, local, &counters);
            }
        }
    }
}

fn finish(
    socket: &UdpSocket,
    response: &[u8],
    peer: SocketAddr,
    local: Option<Local>,
    counters: &Counters,
) {
    counters.response(response.len(), header_rcode(response));
    if !send_one(socket.as_fd(), response, peer, local) {
        counters.unsent(1);
    }
}
