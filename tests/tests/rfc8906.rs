//! RFC 8906, section 8: the queries by which a server shows that it never fails to communicate, as
//! dig asks them, and the neighbours of those in RFC 6891 and RFC 9619. Each is asked of the server
//! alone and behind the program, over IPv4 and IPv6.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use tests::{
    behind::{self, Behind},
    dig::{Dig, Response},
    needs_tool,
    requirements::met,
    served::{Plan, Served},
};

/// The server alone, and behind the program where that can be had.
struct Planes {
    alone: Served,
    behind: Option<Behind>,
}

fn start() -> Planes {
    let mut content = vec!["web.mesos A 10.0.0.1".to_owned()];
    for n in 0..60 {
        content.push(format!("many.mesos A 10.1.0.{n}"));
    }
    let lines: Vec<&str> = content.iter().map(String::as_str).collect();
    let plan = Plan::mesos(&lines);
    let behind = met(behind::possible()).then(|| Behind::start(plan.clone()).unwrap());
    Planes {
        alone: plan.start().unwrap(),
        behind,
    }
}

/// Asks both over IPv4 and IPv6, and expects them to say the same.
fn ask(planes: &Planes, options: &[&str], name: &str, rtype: &str) -> Response {
    let v6 = planes.alone.address_v6();
    let mut ways = vec![planes.alone.dig(), Dig::at(v6.ip()).port(v6.port())];
    ways.extend(planes.behind.iter().flat_map(Behind::digs));
    let ask = |dig: &Dig<'_>| {
        // One id, which also decides which record comes first.
        let dig = dig.clone().option("+norec").option("+qid=4711");
        let dig = options.iter().fold(dig, |dig, option| dig.option(option));
        dig.ask(name, rtype).unwrap()
    };
    let first = ask(&ways[0]);
    for way in &ways[1..] {
        assert_eq!(ask(way), first, "{way:?}");
    }
    first
}

#[test]
fn the_kernel_takes_part() {
    needs_tool!("dig");
    let planes = start();
    ask(&planes, &["+noedns"], "mesos", "SOA");
    ask(
        &planes,
        &["+edns=100", "+noednsnegotiation"],
        "mesos",
        "SOA",
    );
    if let Some(behind) = &planes.behind {
        assert_eq!(behind.answered(), 4);
    }
}

fn is_soa_answer(response: &Response) -> bool {
    response.status == "NOERROR" && response.data("SOA").len() == 1 && response.has_flag("aa")
}

#[test]
fn section_8_1_1_is_the_server_up() {
    needs_tool!("dig");
    let response = ask(&start(), &["+noedns", "+noad"], "mesos", "SOA");
    assert!(is_soa_answer(&response));
    assert_eq!(response.flags, ["qr", "aa", "ra"]);
    assert_eq!(response.edns, None);
}

#[test]
fn section_8_1_2_an_unknown_type_is_nodata() {
    needs_tool!("dig");
    let response = ask(&start(), &["+noedns", "+noad"], "mesos", "TYPE1000");
    assert_eq!(response.status, "NOERROR");
    assert!(response.answer.is_empty() && response.has_flag("aa"));
    assert_eq!(response.authority[0].rtype, "SOA");
}

#[test]
fn section_8_1_3_1_cd_is_not_refused() {
    needs_tool!("dig");
    let response = ask(&start(), &["+noedns", "+noad", "+cd"], "mesos", "SOA");
    assert!(is_soa_answer(&response));
}

#[test]
fn section_8_1_3_2_ad_is_not_copied() {
    needs_tool!("dig");
    let response = ask(&start(), &["+noedns", "+ad"], "mesos", "SOA");
    assert!(is_soa_answer(&response) && !response.has_flag("ad"));
}

#[test]
fn section_8_1_3_3_the_reserved_bit_is_not_copied() {
    needs_tool!("dig");
    let dig = start();
    let output = ask(&dig, &["+noedns", "+noad", "+zflag"], "mesos", "SOA");
    assert!(is_soa_answer(&output));
}

#[test]
fn section_8_1_3_4_rd_is_copied() {
    needs_tool!("dig");
    let response = ask(&start(), &["+noedns", "+noad", "+rec"], "mesos", "SOA");
    assert!(is_soa_answer(&response) && response.has_flag("rd"));
}

#[test]
fn section_8_1_4_an_unknown_opcode_is_notimp() {
    needs_tool!("dig");
    let options = ["+noedns", "+noad", "+opcode=15", "+header-only"];
    let response = ask(&start(), &options, "mesos", "SOA");
    assert_eq!(response.status, "NOTIMP");
    assert_eq!(response.flags, ["qr"]);
    assert!(response.question.is_none() && response.answer.is_empty());
}

#[test]
fn section_8_1_5_tcp_gives_the_same() {
    needs_tool!("dig");
    let response = ask(&start(), &["+noedns", "+noad", "+tcp"], "mesos", "SOA");
    assert!(is_soa_answer(&response));
}

#[test]
fn section_8_2_1_edns_is_answered_with_edns() {
    needs_tool!("dig");
    let response = ask(&start(), &["+edns=0", "+noad"], "mesos", "SOA");
    assert!(is_soa_answer(&response));
    let edns = "version: 0, flags:; udp: 1232";
    assert_eq!(response.edns.as_deref(), Some(edns));
}

#[test]
fn section_8_2_2_another_version_is_badvers() {
    needs_tool!("dig");
    let options = ["+edns=100", "+noednsnegotiation", "+noad"];
    let response = ask(&start(), &options, "mesos", "SOA");
    assert_eq!(response.status, "BADVERS");
    assert!(response.answer.is_empty());
    assert!(response.edns.unwrap().starts_with("version: 0,"));
}

/// As BIND and Knot have it.
#[test]
fn rfc6891_6_1_3_another_version_is_badvers_whatever_else_is_wrong() {
    needs_tool!("dig");
    let planes = start();
    for other in ["+opcode=15", "+header-only"] {
        let options = ["+edns=100", "+noednsnegotiation", "+noad", other];
        let response = ask(&planes, &options, "mesos", "SOA");
        assert_eq!(response.status, "BADVERS", "{other}");
        assert!(response.question.is_none() && response.answer.is_empty());
    }
}

#[test]
fn section_8_2_3_an_unknown_option_is_ignored_and_not_echoed() {
    needs_tool!("dig");
    let response = ask(
        &start(),
        &["+edns=0", "+noad", "+ednsopt=100"],
        "mesos",
        "SOA",
    );
    assert!(is_soa_answer(&response));
    // 12 header, 11 question, 2 + 10 + 43 SOA, 11 OPT without options.
    let soa = 12 + 10 + "\x03ns1\x05mesos\0\x04root\x03ns1\x05mesos\0".len() + 20;
    assert_eq!(response.octets, 12 + 11 + soa - 10 + 11);
}

#[test]
fn section_8_2_4_an_unknown_edns_flag_is_cleared() {
    needs_tool!("dig");
    let response = ask(
        &start(),
        &["+edns=0", "+noad", "+ednsflags=0x40"],
        "mesos",
        "SOA",
    );
    assert!(is_soa_answer(&response));
    let edns = "version: 0, flags:; udp: 1232";
    assert_eq!(response.edns.as_deref(), Some(edns));
}

#[test]
fn section_8_2_5_another_version_with_a_flag() {
    needs_tool!("dig");
    let options = [
        "+edns=100",
        "+noednsnegotiation",
        "+noad",
        "+ednsflags=0x40",
    ];
    let response = ask(&start(), &options, "mesos", "SOA");
    assert_eq!(response.status, "BADVERS");
    assert!(response.edns.unwrap().starts_with("version: 0, flags:;"));
}

#[test]
fn section_8_2_6_another_version_with_an_option() {
    needs_tool!("dig");
    let options = ["+edns=100", "+noednsnegotiation", "+noad", "+ednsopt=100"];
    let response = ask(&start(), &options, "mesos", "SOA");
    assert_eq!(response.status, "BADVERS");
    assert!(response.answer.is_empty());
}

#[test]
fn section_8_2_7_truncated_responses_have_edns() {
    needs_tool!("dig");
    let options = ["+edns=0", "+noad", "+bufsize=512", "+ignore"];
    let response = ask(&start(), &options, "many.mesos", "A");
    assert!(response.has_flag("tc") && response.octets <= 512);
    assert!(response.edns.is_some());
}

#[test]
fn section_8_2_8_do_is_copied() {
    needs_tool!("dig");
    let response = ask(&start(), &["+edns=0", "+noad", "+dnssec"], "mesos", "SOA");
    assert!(is_soa_answer(&response));
    let edns = "version: 0, flags: do; udp: 1232";
    assert_eq!(response.edns.as_deref(), Some(edns));
}

#[test]
fn section_8_2_9_another_version_with_do() {
    needs_tool!("dig");
    let options = ["+edns=100", "+noednsnegotiation", "+noad", "+dnssec"];
    let response = ask(&start(), &options, "mesos", "SOA");
    assert_eq!(response.status, "BADVERS");
}

#[test]
fn section_8_2_10_several_defined_options() {
    needs_tool!("dig");
    let options = [
        "+edns=0",
        "+noad",
        "+cookie",
        "+nsid",
        "+expire",
        "+subnet=0.0.0.0/0",
    ];
    let response = ask(&start(), &options, "mesos", "SOA");
    assert!(is_soa_answer(&response));
}

#[test]
fn rfc6891_6_2_3_a_size_below_512_counts_as_512() {
    needs_tool!("dig");
    let served = start();
    let small = ask(&served, &["+bufsize=100", "+ignore"], "web.mesos", "A");
    assert_eq!((small.answer.len(), small.has_flag("tc")), (1, false));
}

#[test]
fn rfc9619_a_query_without_question_is_formerr() {
    needs_tool!("dig");
    let response = ask(
        &start(),
        &["+noedns", "+noad", "+header-only"],
        "mesos",
        "SOA",
    );
    assert_eq!(response.status, "FORMERR");
}
