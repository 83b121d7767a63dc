//! What the kernel sends: answers to a batch, dumps of tables, flows, links and addresses. The input is one datagram.

use std::net::IpAddr;
use std::sync::LazyLock;

use netlatch::conntrack::wire;
use netlatch::kernel::link;
use netlatch::net::{Direction, Member, Origin};
use netlatch::netlink::{Message, Messages};
use netlatch::nft::build::{build, guard, signed};
use netlatch::nft::filter::{Denial, Filter, Ipv6Traffic};
use netlatch::nft::members::Change;
use netlatch::nft::ruleset::Table;
use netlatch::nft::wire::attr::{Header, Writer, attrs};
use netlatch::nft::wire::batch::{Batch, Head, Removing};
use netlatch::nft::wire::delta::Delta;
use netlatch::nft::wire::dump::Ask;
use netlatch::nft::wire::expr::Expr;
use netlatch::nft::wire::held::Held;
use netlatch::nft::wire::reply::Answers;
use netlatch::nft::wire::uapi::{NFTA_LIST_ELEM, NFTA_RULE_EXPRESSIONS};
use netlatch::plan::layers;
use netlatch::policy::list::List;

/// A table of ours with its guard, what the kernel should hold of each, and the batch that makes them.
static OURS: LazyLock<(Table, Vec<Held>, Batch)> = LazyLock::new(|| {
    let table = table();
    let expected: Vec<Held> = table.parts().map(|part| Held::expected(part, &["eth0".to_owned()])).collect();
    let parts: Vec<(&Table, &Held)> = table.parts().zip(&expected).collect();
    let batch = Batch::replace(&parts, Head::Destroy);
    (table, expected, batch)
});

/// Whatever comes is read to its end; what was understood is written and read again as the same; and what is told of it is a
/// line.
pub(crate) fn holds(bytes: &[u8]) {
    let (table, expected, batch) = &*OURS;
    let mut answers = Answers::default();
    let asks = [Ask::Table, Ask::Tables, Ask::Chains, Ask::Sets, Ask::Rules, Ask::Elements("egress_annotation_1")];
    let questions = || expected.iter().flat_map(|part| asks.iter().map(move |ask| (part, ask)));
    let mut held: Vec<Held> = questions().map(|(part, ask)| Held::for_answer(ask, part)).collect();
    let mut count = 0;
    for message in Messages::new(bytes) {
        let Ok(message) = message else { break };
        count += 1;
        let _ = message.verdict();
        answers.take(&message, batch);
        held.iter_mut().for_each(|held| held.take(&message));
        flow(&message);
        link(&message);
        expressions(&message);
    }
    assert!(count <= bytes.len() / 16);
    let parts: Vec<&Table> = table.parts().collect();
    for refusal in answers.refusals(&parts, batch) {
        super::assert_line(&refusal.to_string());
    }
    let _ = (answers.lacks_destroy(batch), answers.lacks_devices(batch), answers.refuses_only_part(1, batch));
    let mut held = held.into_iter();
    for part in expected {
        let mut whole = Held::empty(part.name(), part.family());
        for (ask, answer) in asks.iter().zip(held.by_ref()) {
            whole.adopt(ask, answer);
        }
        for difference in whole.differences(part) {
            assert!(!difference.is_empty());
        }
        deltas(&whole, part);
    }
}

/// What the kernel holds is brought to what it should, one set after the other.
fn deltas(held: &Held, expected: &Held) {
    for (held, expected) in held.open_sets().zip(expected.open_sets()) {
        let Some(delta) = Delta::between(held, expected) else {
            assert!(held.agrees_with(expected));
            continue;
        };
        let batch = Batch::update(&[delta], Removing::Destroy);
        assert_eq!(Messages::new(&batch.bytes).filter(Result::is_ok).count(), batch.objects.len());
    }
    let gone: IpAddr = "10.0.0.9".parse().expect("an address");
    let change = Change { set: "s".into(), add: Vec::new(), remove: vec![Member { address: gone, port: None }] };
    let delta = Delta::of(&change).expect("of one kind");
    for set in held.open_sets() {
        assert!(delta.that_finds(set).counts().1 <= 1);
    }
}

fn flow(message: &Message<'_>) {
    let _ = wire::entries(message);
    let Some(flow) = wire::flow(message) else { return };
    let mut writer = Writer::default();
    wire::delete(&mut writer, 1, &flow);
    let bytes = writer.into_bytes();
    assert_eq!(Messages::new(&bytes).filter(Result::is_ok).count(), 1);
    let _ = flow.may_begin(&OURS.0, &[flow.original.source]);
    assert!(flow.touches(flow.original.source) && flow.touches(flow.reply.source));
}

fn link(message: &Message<'_>) {
    if let Ok(link) = link::parse_link(message.payload) {
        assert!(link.name.len() <= message.payload.len());
    }
    let _ = link::parse_address(message.kind, message.payload);
}

/// An expression that is known is encoded and decoded as the same.
fn expressions(message: &Message<'_>) {
    let Some(list) = attrs(message).find(NFTA_RULE_EXPRESSIONS) else { return };
    for expr in list.nest().map(|elem| Expr::decode(elem.nest())) {
        if matches!(expr, Expr::Foreign(_)) {
            continue;
        }
        let mut writer = Writer::default();
        writer.message(Header { kind: 0, flags: 0, seq: 0, family: 0, res_id: 0 }, |w| expr.encode(w));
        let bytes = writer.into_bytes();
        let message = Messages::new(&bytes).next().expect("a message").expect("a whole one");
        let again: Vec<Expr> =
            attrs(&message).filter(|attr| attr.kind == NFTA_LIST_ELEM).map(|e| Expr::decode(e.nest())).collect();
        assert_eq!(again, [expr]);
    }
}

/// Any table of ours.
fn table() -> Table {
    let origin = Origin::Builtin("test");
    let list = List::parse("10.0.0.0/8:1-1024 [2001:db8::/32]:443 !10.1.2.3", &origin).expect("a list");
    let layers = vec![layers::of_list("annotation", Direction::Egress, &list, Denial::Reject, &[], &origin)];
    let filter = Filter { ipv6: Ipv6Traffic::Filtered, router_advertisements: false, layers, policies: Vec::new() };
    signed(build(&filter, String::new()).expect("a table"), guard(&filter))
}
