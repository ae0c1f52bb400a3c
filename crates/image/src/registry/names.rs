//! Names of hosts to addresses: `/etc/hosts`, then the name servers of `/etc/resolv.conf`. glibc's own way loads libraries, which a static
//! binary must not. Who answers is not trusted: TLS says whether it was the right host.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE, rdata::RData};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;
/// The most bytes of an answer over UDP.
const UDP_MAX_BYTES: usize = 4096;

/// Where names are looked up.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl Default for Names {
    fn default() -> Names {
        Names { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into() }
    }
}

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) why: String,
    /// Whether a name server has said that there is no such name: it will not be otherwise in a second.
    pub(super) is_final: bool,
}

impl Names {
    /// The addresses of a host, each once; or why there are none.
    pub(super) async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, Unknown> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let hosts = tokio::fs::read_to_string(&self.hosts).await.unwrap_or_default();
        let mut found = in_hosts(&hosts, host);
        if found.is_empty() && (host == "localhost" || host.ends_with(".localhost")) {
            // RFC 6761: never asked of a name server.
            found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        if found.is_empty() {
            let text = tokio::fs::read_to_string(&self.resolv_conf).await.unwrap_or_default();
            found = ask_servers(&Servers::read(&text), host).await?;
        }
        let mut seen = BTreeSet::new();
        found.retain(|address| seen.insert(*address));
        found.truncate(ADDRESSES_MAX);
        Ok(found)
    }
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next().and_then(|word| word.parse().ok());
        if let Some(address) = address
            && words.any(|word| word.eq_ignore_ascii_case(host))
        {
            found.push(address);
        }
    }
    found
}

/// What resolv.conf(5) says, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Servers {
    addresses: Vec<SocketAddr>,
    search: Vec<String>,
    dots: usize,
    wait: Duration,
    rounds: u32,
}

impl Servers {
    fn read(text: &str) -> Servers {
        let mut servers = Servers {
            addresses: Vec::new(),
            search: Vec::new(),
            dots: 1,
            wait: Duration::from_secs(5),
            rounds: 2,
        };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address =
                        words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                    servers.addresses.extend(address.map(|address| SocketAddr::new(address, 53)));
                }
                Some("search" | "domain") => servers.search = words.take(6).map(str::to_owned).collect(),
                Some("options") => words.for_each(|word| servers.option(word)),
                Some(_) | None => {}
            }
        }
        servers.addresses.truncate(3);
        if servers.addresses.is_empty() {
            servers.addresses.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        servers
    }

    fn option(&mut self, word: &str) {
        let Some((name, value)) = word.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.dots = value.min(15) as usize,
            "timeout" => self.wait = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.rounds = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The full names that a name may stand for, the likeliest first.
    fn candidates(&self, host: &str) -> Vec<String> {
        if host.ends_with('.') {
            return vec![host.to_owned()];
        }
        let mut all: Vec<String> = self.search.iter().map(|domain| format!("{host}.{domain}")).collect();
        let at = if host.matches('.').count() >= self.dots { 0 } else { all.len() };
        all.insert(at, host.to_owned());
        all
    }
}

async fn ask_servers(servers: &Servers, host: &str) -> Result<Vec<IpAddr>, Unknown> {
    let mut unknown = Unknown { why: format!("there is no host {host:?}"), is_final: true };
    for name in servers.candidates(host) {
        let mut is_known_missing = false;
        'rounds: for _ in 0..servers.rounds {
            for server in &servers.addresses {
                let (four, six) = tokio::join!(
                    ask(*server, &name, TYPE::A, servers.wait),
                    ask(*server, &name, TYPE::AAAA, servers.wait)
                );
                let mut found = Vec::new();
                for answer in [four, six] {
                    match answer {
                        Ok(addresses) => {
                            is_known_missing = true;
                            found.extend(addresses);
                        }
                        Err(error) => {
                            let why = format!("ask {server} for {name:?}: {error}");
                            unknown = Unknown { why, is_final: false };
                        }
                    }
                }
                if !found.is_empty() {
                    return Ok(found);
                }
                if is_known_missing {
                    break 'rounds;
                }
            }
        }
    }
    Err(unknown)
}

/// Asks one server one question. No such name is no address.
async fn ask(server: SocketAddr, name: &str, kind: TYPE, wait: Duration) -> Result<Vec<IpAddr>, String> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| error.to_string())?;
    let id = u16::from_ne_bytes(id);
    let mut query = Packet::new_query(id);
    let name = Name::new(name).map_err(|error| error.to_string())?;
    query.questions.push(Question::new(name.clone(), kind.into(), CLASS::IN.into(), false));
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let query = query.build_bytes_vec().map_err(|error| error.to_string())?;
    let expected = Expected { id, name: &name, kind };
    let over_udp = timeout(wait, over_udp(server, &query, &expected)).await;
    match over_udp.map_err(|_| "no answer".to_owned())?? {
        Some(addresses) => Ok(addresses),
        None => {
            timeout(wait, over_tcp(server, &query, &expected)).await.map_err(|_| "no answer".to_owned())?
        }
    }
}

/// The addresses, or `None` when they do not fit into a datagram.
async fn over_udp(
    server: SocketAddr,
    query: &[u8],
    expected: &Expected<'_>,
) -> Result<Option<Vec<IpAddr>>, String> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    // A port that the kernel picks, connected: what others send does not arrive.
    let socket = UdpSocket::bind(any).await.map_err(|error| error.to_string())?;
    socket.connect(server).await.map_err(|error| error.to_string())?;
    socket.send(query).await.map_err(|error| error.to_string())?;
    let mut answer = vec![0; UDP_MAX_BYTES];
    loop {
        let length = socket.recv(&mut answer).await.map_err(|error| error.to_string())?;
        // Anything else is not for us, or a guess: the right one may still come.
        if let Some(read) = expected.read(&answer[..length]) {
            return read;
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &[u8], expected: &Expected<'_>) -> Result<Vec<IpAddr>, String> {
    let told = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(server).await.map_err(told)?;
    let length = u16::try_from(query.len()).map_err(|error| error.to_string())?;
    stream.write_all(&length.to_be_bytes()).await.map_err(told)?;
    stream.write_all(query).await.map_err(told)?;
    let length = stream.read_u16().await.map_err(told)?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await.map_err(told)?;
    let read = expected.read(&answer).ok_or("an answer to another question")??;
    read.ok_or_else(|| "an answer that was cut short".to_owned())
}

/// Which answer is waited for.
struct Expected<'a> {
    id: u16,
    name: &'a Name<'a>,
    kind: TYPE,
}

impl Expected<'_> {
    /// `None` when it is not the answer; `Some(Ok(None))` when it was cut short.
    fn read(&self, bytes: &[u8]) -> Option<Result<Option<Vec<IpAddr>>, String>> {
        let answer = Packet::parse(bytes).ok()?;
        let asked = answer.questions.first()?;
        let is_same = asked.qname.to_string().eq_ignore_ascii_case(&self.name.to_string());
        if answer.id() != self.id
            || !answer.has_flags(PacketFlag::RESPONSE)
            || !is_same
            || asked.qtype != self.kind.into()
        {
            return None;
        }
        if answer.has_flags(PacketFlag::TRUNCATION) {
            return Some(Ok(None));
        }
        let code = answer.rcode();
        if !matches!(code, RCODE::NoError | RCODE::NameError) {
            return Some(Err(format!("the server says {code:?}")));
        }
        let address = |data: &RData<'_>| {
            if let RData::A(four) = data {
                return Some(IpAddr::V4(four.address.into()));
            }
            if let RData::AAAA(six) = data { Some(IpAddr::V6(six.address.into())) } else { None }
        };
        Some(Ok(Some(answer.answers.iter().filter_map(|record| address(&record.rdata)).collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_hosts_goes_first() {
        let text = "127.0.0.1 localhost\n10.0.0.1 a.example a # b\n::1 A.example\nbad c\n";
        assert_eq!(
            in_hosts(text, "a.example"),
            ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]
        );
        assert!(in_hosts(text, "b").is_empty());
        assert!(in_hosts(text, "c").is_empty());
    }

    #[test]
    fn the_configuration_of_names_is_read() {
        let servers = Servers::read(
            "# x\nnameserver 10.0.0.53\nnameserver fe80::1%eth0\nsearch a.example b.example\noptions ndots:2 timeout:1 attempts:9 rotate\n",
        );
        assert_eq!(servers.addresses, ["10.0.0.53:53".parse().unwrap(), "[fe80::1]:53".parse().unwrap()]);
        assert_eq!((servers.wait, servers.rounds), (Duration::from_secs(1), 5));
        assert_eq!(servers.candidates("x.y"), ["x.y.a.example", "x.y.b.example", "x.y"]);
        assert_eq!(servers.candidates("x.y.z")[0], "x.y.z");
        assert_eq!(servers.candidates("x."), ["x."]);
        assert_eq!(Servers::read("").addresses, ["127.0.0.1:53".parse().unwrap()]);
    }

    fn packet(id: u16, name: &str, flags: PacketFlag) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        packet.set_flags(flags);
        let name = Name::new(name).unwrap();
        packet.questions.push(Question::new(name.clone(), TYPE::A.into(), CLASS::IN.into(), false));
        let data = RData::A(simple_dns::rdata::A { address: Ipv4Addr::new(10, 0, 0, 1).into() });
        packet.answers.push(simple_dns::ResourceRecord::new(name, CLASS::IN, 1, data));
        packet.build_bytes_vec().unwrap()
    }

    #[test]
    fn an_answer_to_another_question_is_not_taken() {
        let name = Name::new("a.example").unwrap();
        let expected = Expected { id: 7, name: &name, kind: TYPE::A };
        let ten: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(expected.read(&packet(7, "A.example", PacketFlag::RESPONSE)), Some(Ok(Some(vec![ten]))));
        assert_eq!(expected.read(&packet(8, "a.example", PacketFlag::RESPONSE)), None);
        assert_eq!(expected.read(&packet(7, "b.example", PacketFlag::RESPONSE)), None);
        assert_eq!(expected.read(b"\0\x07rubbish"), None);
        let cut = packet(7, "a.example", PacketFlag::RESPONSE | PacketFlag::TRUNCATION);
        assert_eq!(expected.read(&cut), Some(Ok(None)));
    }

    #[tokio::test]
    async fn who_is_not_known_to_a_server_is_told_from_a_server_that_does_not_answer() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let servers = Servers {
            addresses: vec![server.local_addr().unwrap()],
            search: Vec::new(),
            dots: 1,
            wait: Duration::from_secs(20),
            rounds: 1,
        };
        let answers = async {
            for _ in 0..2 {
                let mut query = [0; 512];
                let (length, from) = server.recv_from(&mut query).await.unwrap();
                let query = Packet::parse(&query[..length]).unwrap();
                let mut reply = Packet::new_reply(query.id());
                reply.set_flags(PacketFlag::RESPONSE);
                *reply.rcode_mut() = RCODE::NameError;
                reply.questions.push(query.questions[0].clone());
                server.send_to(&reply.build_bytes_vec().unwrap(), from).await.unwrap();
            }
        };
        let (found, ()) = tokio::join!(ask_servers(&servers, "a.example"), answers);
        let unknown = found.unwrap_err();
        assert!(unknown.is_final && unknown.why.contains("no host \"a.example\""), "{unknown:?}");
        drop(server);
        let unknown = ask_servers(&servers, "a.example").await.unwrap_err();
        assert!(!unknown.is_final && unknown.why.contains("ask 127.0.0.1"), "{unknown:?}");
    }

    #[tokio::test]
    async fn a_server_is_asked_and_the_right_answer_waited_for() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let answers = async {
            let mut query = [0; 512];
            let (length, from) = server.recv_from(&mut query).await.unwrap();
            let id = Packet::parse(&query[..length]).unwrap().id();
            server
                .send_to(&packet(id.wrapping_add(1), "a.example", PacketFlag::RESPONSE), from)
                .await
                .unwrap();
            server.send_to(&packet(id, "a.example", PacketFlag::RESPONSE), from).await.unwrap();
        };
        let asked = ask(address, "a.example", TYPE::A, Duration::from_secs(20));
        let (found, ()) = tokio::join!(asked, answers);
        assert_eq!(found.unwrap(), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }
}
