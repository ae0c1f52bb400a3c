//! Connections that the kernel remembers. A client that goes on sending datagrams keeps its old way alive: when a container goes, so must
//! what leads to it.

use std::net::Ipv4Addr;

use tinyd_sys::{
    Result,
    netlink::{Messages, Socket},
};

/// `IPCTNL_MSG_CT_DELETE` (linux/netfilter/nfnetlink_conntrack.h), as the numbers below.
const CT_DELETE: i32 = 2;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_PROTO_NUM: u16 = 1;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// The bits of `CTA_FILTER_REPLY_FLAGS`: which parts of the tuple count.
const BY_IP_SRC: u32 = 1 << 0;
const BY_PROTO_NUM: u32 = 1 << 3;

/// Forgets UDP conversations whose answers come from `ip`. Kernels before 5.8 know no such filter: there they time out in two minutes.
pub(crate) fn forget(netfilter: &mut Socket, ip: Ipv4Addr) -> Result<()> {
    let kind = ((libc::NFNL_SUBSYS_CTNETLINK << 8) | CT_DELETE) as u16;
    let mut request = Messages::new();
    request.add(format!("IPCTNL_MSG_CT_DELETE({ip})"), kind, 0, |body| {
        body.fixed(&[libc::AF_INET as u8, 0, 0, 0]);
        body.nest(CTA_TUPLE_REPLY, |body| {
            body.nest(CTA_TUPLE_IP, |body| body.bytes(CTA_IP_V4_SRC, &ip.octets()));
            body.nest(CTA_TUPLE_PROTO, |body| body.u8(CTA_PROTO_NUM, libc::IPPROTO_UDP as u8));
        });
        body.nest(CTA_FILTER, |body| {
            body.u32(CTA_FILTER_ORIG_FLAGS, 0);
            body.u32(CTA_FILTER_REPLY_FLAGS, BY_IP_SRC | BY_PROTO_NUM);
        });
    });
    match netfilter.request(request) {
        Err(error) if !matches!(error.errno(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL)) => {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
