//! Who there is, as `kubectl get -o yaml` prints it. Fields that nobody here uses are not looked at.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::cidr;
use super::meta::Meta;
use super::network_policy::{TRANSPORTS, port_number};
use crate::document::{Fields, Place, Value};
use crate::net::Transport;
use crate::policy::model::{Operator, Requirement, Selector};
use crate::policy::names::NamedPort;
use crate::policy::world::{
    EndpointSlice, NAMESPACE_NAME_LABEL, Namespace, Node, Pod, Service, ServicePort, TargetPort,
};

/// The label by which an `EndpointSlice` names its service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The field `name` unless it is missing, null or an empty string, which to the API are the same.
fn given<'a>(fields: &mut Fields<'a>, name: &'static str) -> Option<Place<'a>> {
    fields.not_null(name).filter(|place| !matches!(&place.node().value, Value::Str { text, .. } if text.is_empty()))
}

fn text(fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    given(fields, name).and_then(|place| place.string()).map(str::to_owned)
}

fn items<'a>(fields: Option<&mut Fields<'a>>, name: &'static str) -> Vec<Place<'a>> {
    let list = fields.and_then(|fields| fields.not_null(name)).and_then(|list| list.items());
    list.into_iter().flatten().collect()
}

fn below<'a>(fields: &mut Fields<'a>, name: &'static str) -> Option<Fields<'a>> {
    fields.not_null(name).and_then(|place| place.fields())
}

fn transport(fields: &mut Fields<'_>) -> Option<Transport> {
    given(fields, "protocol").map_or(Some(Transport::Tcp), |place| place.word(&TRANSPORTS))
}

/// A `Namespace`.
pub(super) fn namespace(place: &Place<'_>, meta: Meta<'_>) -> Option<Namespace> {
    let mut labels = meta.labels;
    let written = labels.insert(NAMESPACE_NAME_LABEL.to_owned(), meta.name.to_owned());
    if written.is_some_and(|written| written != meta.name) {
        let place = meta.labels_place.as_ref().and_then(Place::entries).into_iter().flatten();
        for (_, value) in place.filter(|(key, _)| key.text == NAMESPACE_NAME_LABEL) {
            value.refuse(format!("is not the namespace's name, {}", meta.name));
        }
    }
    Some(Namespace { name: meta.name.to_owned(), labels, origin: place.origin() })
}

/// A `Node`.
pub(super) fn node(object: &mut Fields<'_>, meta: Meta<'_>) -> Option<Node> {
    let mut status = below(object, "status");
    let addresses = items(status.as_mut(), "addresses")
        .into_iter()
        // Host names stand among them.
        .filter_map(|item| cidr::parse_address(item.fields()?.required("address")?.string()?));
    let mut seen = BTreeSet::new();
    let distinct = addresses.filter(|address| seen.insert(*address)).collect();
    Some(Node {
        name: meta.name.to_owned(),
        labels: meta.labels,
        addresses: distinct,
        origin: object.object().origin(),
    })
}

/// A `Pod` that has not ended, with the place of each of its addresses. Ports of its containers go to `declared`.
pub(super) fn pod<'a>(
    object: &mut Fields<'a>,
    meta: Meta<'_>,
    declared: &mut BTreeSet<(Transport, u16)>,
) -> Option<(Pod, Vec<Place<'a>>)> {
    let mut status = below(object, "status");
    let phase = status.as_mut().and_then(|status| text(status, "phase"));
    let mut spec = below(object, "spec");
    let host_network = spec.as_mut().and_then(|spec| spec.not_null("hostNetwork")).and_then(|place| place.boolean());
    let node = spec.as_mut().and_then(|spec| text(spec, "nodeName"));
    let mut ports = Vec::new();
    for container in items(spec.as_mut(), "containers") {
        ports_of(&container, false, &mut ports, declared);
    }
    for container in items(spec.as_mut(), "initContainers") {
        ports_of(&container, true, &mut ports, declared);
    }
    let (mut addresses, mut seen) = (Vec::new(), BTreeSet::new());
    let mut places = Vec::new();
    let listed = items(status.as_mut(), "podIPs");
    let listed = listed.into_iter().filter_map(|item| item.fields().and_then(|mut fields| fields.required("ip")));
    let single = status.as_mut().and_then(|status| given(status, "podIP"));
    for place in listed.chain(single) {
        let Some(address) = cidr::address(&place) else { continue };
        if seen.insert(address) {
            addresses.push(address);
            places.push(place);
        }
    }
    // Its addresses may be another's by now (facts: L4).
    if phase.is_some_and(|phase| phase == "Succeeded" || phase == "Failed") {
        return None;
    }
    let pod = Pod {
        namespace: meta.namespace.to_owned(),
        name: meta.name.to_owned(),
        labels: meta.labels,
        addresses,
        ports,
        host_network: host_network.unwrap_or(false),
        node,
        origin: object.object().origin(),
    };
    Some((pod, places))
}

/// Adds the ports of a container; of an init container only where it is a sidecar, which stays.
fn ports_of(
    container: &Place<'_>,
    init: bool,
    ports: &mut Vec<NamedPort>,
    declared: &mut BTreeSet<(Transport, u16)>,
) -> Option<()> {
    let mut fields = container.fields()?;
    let stays = !init || text(&mut fields, "restartPolicy").is_some_and(|policy| policy == "Always");
    for port in items(Some(&mut fields), "ports") {
        let Some(mut fields) = port.fields() else { continue };
        let name = text(&mut fields, "name");
        let number = fields.required("containerPort").and_then(|place| port_number(&place));
        let protocol = transport(&mut fields);
        if let (true, Some(port), Some(protocol)) = (stays, number, protocol) {
            declared.insert((protocol, port));
            ports.extend(name.map(|name| NamedPort { name, port, protocol }));
        }
    }
    Some(())
}

/// A `Service`.
pub(super) fn service(object: &mut Fields<'_>, meta: &Meta<'_>) -> Option<Service> {
    let origin = object.object().origin();
    let mut status = below(object, "status");
    let mut spec = below(object, "spec");
    let kind = spec.as_mut().and_then(|spec| text(spec, "type"));
    let mut places = items(spec.as_mut(), "clusterIPs");
    places.extend(spec.as_mut().and_then(|spec| given(spec, "clusterIP")));
    // What a headless service has in place of an address.
    places.retain(|place| !matches!(&place.node().value, Value::Str { text, .. } if text == "None" || text.is_empty()));
    places.extend(items(spec.as_mut(), "externalIPs"));
    let mut balancer = status.as_mut().and_then(|status| below(status, "loadBalancer"));
    let points = items(balancer.as_mut(), "ingress");
    places.extend(points.into_iter().filter_map(|point| given(&mut point.fields()?, "ip")));
    let mut seen = BTreeSet::new();
    let mut addresses: Vec<IpAddr> =
        places.iter().filter_map(cidr::address).filter(|address| seen.insert(*address)).collect();
    if kind.is_some_and(|kind| kind == "ExternalName") {
        addresses.clear();
    }
    let selector = spec.as_mut().and_then(|spec| spec.not_null("selector")).and_then(|place| plain_selector(&place));
    let ports = items(spec.as_mut(), "ports").iter().filter_map(service_port).collect();
    Some(Service {
        namespace: meta.namespace.to_owned(),
        name: meta.name.to_owned(),
        addresses,
        selector,
        ports,
        origin,
    })
}

/// A map of labels; an empty one is none: "if empty or not present, the service is assumed to have an external process
/// managing its endpoints".
fn plain_selector(place: &Place<'_>) -> Option<Selector> {
    let requirements: Vec<Requirement> = place
        .entries()?
        .filter_map(|(key, value)| {
            let values = vec![value.string()?.to_owned()];
            Some(Requirement { key: key.text.clone(), operator: Operator::In, values })
        })
        .collect();
    (!requirements.is_empty()).then_some(Selector { requirements })
}

fn service_port(place: &Place<'_>) -> Option<ServicePort> {
    let mut fields = place.fields()?;
    let name = text(&mut fields, "name").unwrap_or_default();
    let transport = transport(&mut fields);
    let port = fields.required("port").and_then(|place| port_number(&place));
    let target = match given(&mut fields, "targetPort") {
        None => port.map(TargetPort::Number),
        Some(place) => match &place.node().value {
            Value::Str { .. } => place.string().map(|name| TargetPort::Named(name.to_owned())),
            // 0 is what the API prints for "not set".
            Value::Int { value: 0, .. } => port.map(TargetPort::Number),
            Value::Int { .. } | Value::Null | Value::Bool(_) | Value::Float { .. } | Value::Seq(_) | Value::Map(_) => {
                port_number(&place).map(TargetPort::Number)
            }
        },
    };
    Some(ServicePort { name, transport: transport?, port: port?, target: target? })
}

/// An `EndpointSlice`; `None` where it is no service's, or holds names and no addresses.
pub(super) fn slice(object: &mut Fields<'_>, meta: &Meta<'_>) -> Option<EndpointSlice> {
    let origin = object.object().origin();
    let kind = text(object, "addressType");
    let is_names = kind.is_some_and(|kind| kind == "FQDN");
    let mut addresses: Vec<IpAddr> = Vec::new();
    for endpoint in items(Some(object), "endpoints") {
        let Some(mut fields) = endpoint.fields() else { continue };
        let mut conditions = below(&mut fields, "conditions");
        let ready = conditions.as_mut().and_then(|fields| fields.not_null("ready")).and_then(|place| place.boolean());
        if is_names || ready == Some(false) {
            continue;
        }
        addresses.extend(items(Some(&mut fields), "addresses").iter().filter_map(cidr::address));
    }
    let mut ports = Vec::new();
    for port in items(Some(object), "ports") {
        let Some(mut fields) = port.fields() else { continue };
        let name = text(&mut fields, "name").unwrap_or_default();
        let transport = transport(&mut fields);
        let number = fields.not_null("port").and_then(|place| port_number(&place));
        ports.extend(transport.zip(number).map(|(transport, number)| (name, transport, number)));
    }
    let service = meta.labels.get(SERVICE_NAME_LABEL)?.clone();
    (!is_names).then(|| EndpointSlice { namespace: meta.namespace.to_owned(), service, addresses, ports, origin })
}
