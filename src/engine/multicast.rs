//! Sending a file or partition from one PC to others with the programs that OpenGnsys uses: sessions, and the command
//! lines of ogMcastSyntax (udpcast) and ogUcastSyntax (mbuffer).

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Code, Engine, Error, unicast};
use crate::base::shell;

/// OpenGnsys' multicast ports; only even ones are used.
const PORTS: std::ops::RangeInclusive<u16> = 9000..=9098;
/// The TCP port on which a repository accepts requests (ogAdmRepoAux).
const REPOSITORY: u16 = 2009;
/// Times that a repository is asked for a session.
const TRIES: u32 = 5;
/// Time that a sender takes to start.
const BEGINNING: Duration = Duration::from_secs(2);
/// Time-out of a connection attempt.
const PATIENCE: Duration = Duration::from_secs(5);

/// The end of a transfer that a command line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends a file or partition.
    Send,
    /// Receives it.
    Receive,
}

impl Engine {
    /// The command line that sends or receives by multicast; udpcast reads or writes `file`, or else a pipe.
    ///
    /// # Errors
    /// [`Code::McastSyntax`]: the session is malformed.
    pub fn multicast_line(&self, role: Role, session: &str, file: Option<&str>) -> Result<String, Error> {
        let buffer = if self.has_program("mbuffer") { " --pipe 'mbuffer -q -m 20M' " } else { "" };
        let log = shell::word(&self.env().rooted("/tmp/mcast.log").to_string_lossy());
        let file = file.map_or(String::new(), |file| format!(" --file {}", shell::word(file)));
        let wrong = |what: &str| Error::new(Code::McastSyntax, format!("{session}: {what}"));
        let words: Vec<&str> = session.split(':').collect();
        let port = words[0].parse().ok().filter(|port| PORTS.contains(port) && port % 2 == 0);
        let port: u16 = port.ok_or_else(|| wrong("the port must be even, from 9000 to 9098"))?;
        let number =
            |word: &str, what: &str| word.parse::<u32>().map_err(|_| wrong(&format!("{what}: {word} is not a number")));
        if role == Role::Send {
            let [_, method, address, rate, clients, wait] = words[..] else {
                return Err(wrong("a server's session is port:method:address:rate:clients:seconds"));
            };
            let known = ["full-duplex", "half-duplex", "broadcast"].contains(&method);
            self.ensure(known, Code::McastSyntax, format!("{session}: unknown method {method}"))?;
            address.parse::<Ipv4Addr>().map_err(|_| wrong(&format!("{address} is not an IPv4 address")))?;
            let mbit = rate.strip_suffix('M').filter(|mbit| mbit.len() <= 3 && mbit.parse::<u16>().is_ok());
            self.ensure(mbit.is_some(), Code::McastSyntax, format!("{session}: {rate} is not a rate such as 70M"))?;
            let (clients, wait) = (number(clients, "clients")?, number(wait, "seconds")?);
            return Ok(format!(
                "udp-sender {buffer} --nokbd --portbase {port} --{method} --mcast-data-address {address} \
                 --fec 8x8/128 --max-bitrate {rate} --ttl 16 --min-clients {clients} --max-wait {wait} \
                 --autostart {wait} --log {log}{file}"
            ));
        }
        let mut line = format!("udp-receiver {buffer} --portbase {port}");
        let (server, times) = match words[1..] {
            [] => ("", &[][..]),
            [server, ref times @ ..] => (server, times),
        };
        self.ensure(times.len() <= 2, Code::McastSyntax, format!("{session}: port[:server[:seconds[:seconds]]]"))?;
        if !server.is_empty() {
            server.parse::<Ipv4Addr>().map_err(|_| wrong(&format!("{server} is not an IPv4 address")))?;
            line += &format!(" --mcast-rdv-address {server}");
        }
        let options = [("--start-timeout", "MCASTERRORSESSION"), ("--receive-timeout", "MCASTWAIT")];
        for (at, (option, variable)) in options.into_iter().enumerate() {
            // What the session leaves out is engine.cfg's; 0 is udpcast's own.
            let seconds = times.get(at).copied().filter(|time| !time.is_empty()).unwrap_or(self.env().get(variable));
            if number(seconds, "seconds")? > 0 && udp_receiver_knows(option) {
                line += &format!(" {option} {seconds}");
            }
        }
        Ok(format!("{line} --log {log}{file}"))
    }

    /// The command line that sends or receives with mbuffer.
    ///
    /// # Errors
    /// [`Code::UcastSyntax`]: the session is malformed.
    pub fn unicast_line(&self, role: Role, session: &str, file: Option<&str>) -> Result<String, Error> {
        let session = unicast::Session::parse(session)?;
        let (port, file) = (session.port, file.map(shell::word));
        Ok(match role {
            Role::Send => {
                let to: String = session.addresses.iter().map(|address| format!(" -O {address}:{port}")).collect();
                format!("mbuffer {to}{}", file.map_or(String::new(), |file| format!(" -i {file}")))
            }
            Role::Receive => {
                let from = session.addresses[0];
                format!("mbuffer -I {from}:{port} {}", file.map_or(String::new(), |file| format!(" -o {file}")))
            }
        })
    }

    /// Runs the command line `line`; each of `programs` must be installed.
    ///
    /// # Errors
    /// [`Code::NotExec`]: a program is not installed. `code`: a program failed.
    pub fn transfer(&self, line: &str, programs: &[&str], code: Code) -> Result<(), Error> {
        programs.iter().try_for_each(|program| self.transfers_by(program))?;
        // It would take the end of its input for a key, and at a key the sender starts without those who are not there yet.
        let line = line.replacen("udp-receiver ", "udp-receiver --nokbd ", 1);
        self.run_pipeline(&line).map_err(|error| Error::new(code, error.detail))
    }

    /// Checks that a program is installed, before a sender is asked to start.
    ///
    /// # Errors
    /// [`Code::NotExec`]: it is not installed.
    pub fn transfers_by(&self, program: &str) -> Result<(), Error> {
        let why = format!("{program} is not installed: install it, or use TORRENT, which needs no other program");
        self.ensure(self.has_program(program), Code::NotExec, why)
    }

    /// Asks the repository at `server` to multicast the image file `name` with the session `options` (ogMcastRequest).
    ///
    /// # Errors
    /// [`Code::ProtocolJoinMaster`]: it cannot be asked, or does not start to send.
    pub fn request_multicast(
        &self,
        server: &str,
        name: &str,
        options: &str,
        wait: &dyn Fn(Duration) -> bool,
    ) -> Result<(), Error> {
        if server.is_empty() {
            let why = "neither ogrepo nor ROOTREPO holds the address of the repository that is to send";
            return Err(Error::new(Code::ProtocolJoinMaster, why));
        }
        let failed = |why: &str| Error::new(Code::ProtocolJoinMaster, format!("ask {server}:{REPOSITORY}: {why}"));
        // The repository's shell splits the request at its blanks, and runs a command of its words.
        if let Some(odd) = [name, options].into_iter().find(|word| !is_asked(word)) {
            return Err(failed(&format!(
                "{odd:?} cannot be asked for: a request is of words without blanks and quotes"
            )));
        }
        // With nmap, which sees whether the sender has started, the repository is asked until it has.
        let looks = self.has_program("nmap");
        let mut why = "it does not start to send".to_owned();
        for _ in 0..TRIES {
            if looks && is_open(server, options) {
                return Ok(());
            }
            match ask(server, &format!("START_MULTICAST {name} {options}")) {
                // A receiver says hello only once, so it had better wait for the sender.
                Ok(()) if !looks && wait(BEGINNING) => return Ok(()),
                Ok(()) => {}
                Err(error) => why = error.to_string(),
            }
            if !wait(Duration::from_secs(if looks { 10 } else { 1 })) {
                break;
            }
        }
        Err(failed(&why))
    }
}

/// Whether a shell takes `word` for one word that means itself: plain, or beyond ASCII.
fn is_asked(word: &str) -> bool {
    shell::is_plain(&word.replace(|char: char| !char.is_ascii(), "x"))
}

fn ask(server: &str, line: &str) -> std::io::Result<()> {
    let addresses = (server, REPOSITORY).to_socket_addrs()?;
    let mut last = std::io::Error::other("the name has no address");
    for address in addresses.collect::<Vec<SocketAddr>>() {
        match TcpStream::connect_timeout(&address, PATIENCE).and_then(|mut socket| socket.write_all(line.as_bytes())) {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether a sender of the session runs: its second port is open.
fn is_open(server: &str, options: &str) -> bool {
    let Some(server) = (server, REPOSITORY).to_socket_addrs().ok().and_then(|mut found| found.next()) else {
        return false;
    };
    let port = options.split(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or_default();
    let mut nmap = Command::new("nmap");
    nmap.args(["-n", "-sU", "-p", &port.saturating_add(1).to_string()]);
    nmap.args(server.is_ipv6().then_some("-6")).arg(server.ip().to_string()).stdin(Stdio::null());
    nmap.output().is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("open"))
}

/// Whether the installed udp-receiver has `option`: old versions have no time-outs. True if none is installed.
fn udp_receiver_knows(option: &str) -> bool {
    let output = Command::new("udp-receiver").arg("--help").stdin(Stdio::null()).output();
    // The command line is for another machine then.
    output.map_or(true, |output| {
        [output.stdout, output.stderr].iter().any(|said| String::from_utf8_lossy(said).contains(option))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::moved;
    use super::*;

    const SERVER: &str = "9000:full-duplex:239.194.17.2:70M:20:120";

    #[test]
    fn lines_are_opengnsys_own() {
        let (dir, engine) = moved(&[]);
        let log = dir.path().join("tmp/mcast.log");
        assert_eq!(
            engine.multicast_line(Role::Send, SERVER, Some("/x y.img")).unwrap(),
            format!(
                "udp-sender  --nokbd --portbase 9000 --full-duplex --mcast-data-address 239.194.17.2 --fec 8x8/128 \
                 --max-bitrate 70M --ttl 16 --min-clients 20 --max-wait 120 --autostart 120 --log {} --file '/x y.img'",
                log.display()
            )
        );
        assert_eq!(
            engine.multicast_line(Role::Receive, "9000:10.0.0.1:0:0", None).unwrap(),
            format!("udp-receiver  --portbase 9000 --mcast-rdv-address 10.0.0.1 --log {}", log.display())
        );
        let times = |start, receive| format!(" --start-timeout {start} --receive-timeout {receive}");
        for (session, words) in [
            ("9000", times(120, 30)),
            ("9000::60", times(60, 30)),
            ("9000:10.0.0.1", format!(" --mcast-rdv-address 10.0.0.1{}", times(120, 30))),
            ("9000:10.0.0.1:60:20", format!(" --mcast-rdv-address 10.0.0.1{}", times(60, 20))),
            ("9000:10.0.0.1::0", " --mcast-rdv-address 10.0.0.1 --start-timeout 120".to_owned()),
        ] {
            let line = format!("udp-receiver  --portbase 9000{words} --log {}", log.display());
            assert_eq!(engine.multicast_line(Role::Receive, session, None).unwrap(), line);
        }
        let unicast = |role, session| engine.unicast_line(role, session, None).unwrap();
        assert_eq!(unicast(Role::Send, "8000:10.0.0.1:10.0.0.2"), "mbuffer  -O 10.0.0.1:8000 -O 10.0.0.2:8000");
        assert_eq!(unicast(Role::Receive, "8000:10.0.0.1"), "mbuffer -I 10.0.0.1:8000 ");
    }

    #[test]
    fn a_repository_is_asked_only_for_what_its_shell_takes_for_words() {
        let (_dir, engine) = moved(&[]);
        let refusal =
            |name, session| engine.request_multicast("127.0.0.1", name, session, &|_| false).unwrap_err().detail;
        for odd in ["/x y.img", "/x;reboot", "/$(reboot)", "/`x`", "/x\nSTOP", "", "-x", "/*"] {
            for (name, session) in [(odd, SERVER), ("/x.img", odd)] {
                assert!(refusal(name, session).contains("cannot be asked for"), "{odd}");
            }
        }
        assert!(!refusal("/aula1/Señal_1.img", SERVER).contains("cannot be asked for"));
    }

    #[test]
    fn what_is_no_session_is_told_apart() {
        let (_dir, engine) = moved(&[]);
        let line = |role, session: &str| engine.multicast_line(role, session, None).map_err(|error| error.code);
        for (at, wrong) in ["9001", "half", "10.0", "70", "x", "-1"].iter().enumerate() {
            let mut words: Vec<&str> = SERVER.split(':').collect();
            words[at] = wrong;
            assert_eq!(line(Role::Send, &words.join(":")), Err(Code::McastSyntax), "{words:?}");
        }
        for wrong in ["", "9100", "8998", "9000:10.0", "9000:pc:1:1", "9000:10.0.0.1:x:1", "9000::1:1:1", "9000;reboot"]
        {
            assert_eq!(line(Role::Receive, wrong), Err(Code::McastSyntax), "{wrong}");
        }
    }
}
