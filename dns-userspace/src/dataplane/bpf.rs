//! Commands of bpf(2) that aya does not offer.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::sys;

const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
const BPF_LINK_DETACH: libc::c_int = 34;

/// Detaches a link for good, whoever else holds it.
///
/// # Errors
/// The kernel does not permit it, or it is detached.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = [u32::try_from(link.as_raw_fd()).unwrap_or_default(), 0, 0, 0];
    call(BPF_LINK_DETACH, &mut attribute).map(drop)
}

/// Opens the link of an id. Takes `CAP_SYS_ADMIN`.
///
/// # Errors
/// The kernel does not permit it, or there is none.
pub(super) fn link_of_id(id: u32) -> io::Result<OwnedFd> {
    let fd = call(BPF_LINK_GET_FD_BY_ID, &mut [id, 0, 0, 0])?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Detaches a pinned link for good.
///
/// # Errors
/// As [`detach_link`], or there is no link.
pub(super) fn detach_pinned(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let address = path.as_ptr() as u64;
    let fd = call(BPF_OBJ_GET, &mut [address, 0])?;
    // SAFETY: the kernel has just made this descriptor for us.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    detach_link(link.as_fd())
}

/// Index of the interface of a link of XDP or TC, in the network namespace of that interface; 0 if it is
/// detached.
///
/// # Errors
/// The kernel does not say.
pub(super) fn interface_of(link: BorrowedFd<'_>) -> io::Result<u32> {
    // `struct bpf_link_info`: type, id and program, a gap, and then what such links have.
    let mut information = [0u32; 16];
    let octets = u64::try_from(size_of_val(&information)).unwrap_or_default();
    let link = u64::try_from(link.as_raw_fd()).unwrap_or_default();
    let address = information.as_mut_ptr() as u64;
    call(BPF_OBJ_GET_INFO_BY_FD, &mut [link | octets << 32, address])?;
    Ok(information[4])
}

/// What the kernel takes for a question of who is attached.
#[repr(C)]
#[derive(Default)]
struct Query {
    interface: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    reserved: u32,
    more: [u64; 4],
}

/// Ids of the TC programs that links hold at the ingress of an interface (Linux 6.6).
///
/// # Errors
/// The kernel does not say, or knows no such links.
pub(super) fn tcx_programs(interface: u32) -> io::Result<Vec<u32>> {
    const BPF_TCX_INGRESS: u32 = 46;
    // The kernel takes no more in one place.
    const MAX_PROGRAMS: u32 = 64;
    let mut ids = vec![0u32; MAX_PROGRAMS as usize];
    let mut attribute = Query {
        interface,
        attach_type: BPF_TCX_INGRESS,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS,
        ..Query::default()
    };
    call(BPF_PROG_QUERY, &mut attribute)?;
    ids.truncate(attribute.count as usize);
    Ok(ids)
}

/// What the kernel takes for a test run.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    octets_in: u32,
    octets_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in: [u32; 2],
    context: [u64; 2],
    flags: u32,
    cpu: u32,
    batch: u32,
    reserved: u32,
}

/// Runs an XDP program once over a packet, which it may change in place.
///
/// # Errors
/// The kernel does not permit it.
pub(super) fn test_run(program: BorrowedFd<'_>, packet: &mut [u8]) -> io::Result<u32> {
    let octets = u32::try_from(packet.len()).map_err(io::Error::other)?;
    let data = packet.as_mut_ptr() as u64;
    let mut attribute = TestRun {
        program: u32::try_from(program.as_raw_fd()).unwrap_or_default(),
        octets_in: octets,
        octets_out: octets,
        data_in: data,
        data_out: data,
        repeat: 1,
        ..TestRun::default()
    };
    call(BPF_PROG_TEST_RUN, &mut attribute)?;
    Ok(attribute.result)
}

fn call<T>(command: libc::c_int, attribute: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the attributes above are as their commands want them; memory that they point to
    // lives in the functions above, which say its size.
    unsafe { sys::bpf(command, attribute) }
}
