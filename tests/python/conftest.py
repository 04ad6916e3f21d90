"""One real deployment for all stories: a migrated site, Gunicorn over TCP and unix socket, a gateway before each."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from support.appserver import AppServer
from support.certificates import Authority
from support.gateway import Gateway
from support.gunicorn import Gunicorn
from support.node import Peer
from support.processes import Daemon
from support.provider import Provider
from support.refusals import Deployment
from support.servers import SERVERS, SOCKET_SERVERS
from support.site import PASSWORD, Site
from support.waiting import free_ports
from support.whoami import WhoamiGateway

S = TypeVar("S", bound=AppServer)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,  # noqa: ARG001
    call: pytest.CallInfo[None],  # noqa: ARG001
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the logs of every running process beside a failure."""
    report = yield
    if report.failed:
        report.sections.extend((f"log of {daemon.name}", daemon.tail()) for daemon in Daemon.running)
    return report


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The only certificate authority that clients trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """Signs with jose, in one Node.js process for all stories."""
    started = Peer("signer.mjs", tmp_path_factory.mktemp("signer"), {})
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The deployed Django project."""
    return Site.deploy(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def tcp_upstream(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """Gunicorn on a TCP port."""
    yield from _served(Gunicorn(site, tmp_path_factory.mktemp("tcp"), free_ports(1)[0]))


@pytest.fixture(scope="session")
def unix_upstream(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """Gunicorn on a unix socket."""
    yield from _served(Gunicorn(site, tmp_path_factory.mktemp("unix")))


@pytest.fixture(scope="session", params=["tcp", "unix"])
def upstream(request: pytest.FixtureRequest) -> Gunicorn:
    """Each kind of upstream in turn, shared by the stories that leave it as it is."""
    served: Gunicorn = request.getfixturevalue(f"{request.param}_upstream")
    return served


@pytest.fixture(scope="session")
def gateway(upstream: Gunicorn, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway before the shared upstream, for the stories that leave it as it is."""
    yield from _guarded(_gateway_before(upstream, authority, tmp_path_factory.mktemp("gateway")))


@pytest.fixture
def own_gateway(upstream: Gunicorn, authority: Authority, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway for this story alone, which may edit its files and end it; before the shared upstream."""
    yield from _guarded(_gateway_before(upstream, authority, tmp_path))


@pytest.fixture(params=["tcp", "unix"])
def own_upstream(
    request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gunicorn]:
    """A Gunicorn for this story alone, which may stop it."""
    port = free_ports(1)[0] if request.param == "tcp" else None
    yield from _served(Gunicorn(site, tmp_path_factory.mktemp("own"), port))


@pytest.fixture
def gateway_before_own_upstream(own_upstream: Gunicorn, authority: Authority, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway before this story's own Gunicorn."""
    yield from _guarded(_gateway_before(own_upstream, authority, tmp_path))


@pytest.fixture(params=["", "keep_alive_secs = 60"], ids=["default", "too long"])
def keeping_gateway(
    request: pytest.FixtureRequest, upstream: Gunicorn, authority: Authority, tmp_path: Path
) -> Iterator[Gateway]:
    """A gateway that keeps idle connections for less time than Gunicorn, and one that is told to keep them longer."""
    gateway = _gateway_before(upstream, authority, tmp_path)
    gateway.upstream_keys = request.param
    gateway.configure()
    yield from _guarded(gateway)


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """Each application server in turn, over each of its wires."""
    yield from _served(SERVERS[request.param](site, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="session")
def front(server: AppServer, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway before each of them."""
    yield from _guarded(_gateway_before(server, authority, tmp_path_factory.mktemp("front")))


@pytest.fixture(params=[False, True], ids=["h1", "h2"])
def visitor(request: pytest.FixtureRequest, front: Gateway) -> Iterator[httpx.Client]:
    """A client of that gateway, over each version of HTTP in turn."""
    with front.client(http2=request.param) as opened:
        yield opened


@pytest.fixture(scope="session", params=SOCKET_SERVERS)
def socket_server(
    request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AppServer]:
    """Each application server that speaks WebSocket."""
    yield from _served(SERVERS[request.param](site, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="session")
def socket_gateway(
    socket_server: AppServer, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway before each of those."""
    yield from _guarded(_gateway_before(socket_server, authority, tmp_path_factory.mktemp("sockets")))


@pytest.fixture
def own_socket_gateway(socket_server: AppServer, authority: Authority, tmp_path: Path) -> Iterator[Gateway]:
    """The same for this story alone, which may edit its files and end it."""
    yield from _guarded(_gateway_before(socket_server, authority, tmp_path))


@pytest.fixture
def make_front(authority: Authority, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Makes and starts a gateway before a server, with more lines for its upstream; ends it with the story."""
    made: list[Gateway] = []

    def make(server: AppServer, upstream_keys: str = "") -> Gateway:
        gateway = _gateway_before(server, authority, tmp_path)
        gateway.upstream_keys = upstream_keys
        gateway.configure()
        made.append(gateway)
        gateway.start()
        return gateway

    yield make
    for gateway in made:
        gateway.stop()


@pytest.fixture(params=[False, True], ids=["h1", "h2"])
def client(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of the shared gateway with its own cookies, over each version of HTTP in turn."""
    with gateway.client(http2=request.param) as opened:
        yield opened


@pytest.fixture
def direct(upstream: Gunicorn, gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of Gunicorn itself, speaking as the gateway would."""
    with upstream.client(gateway.host) as opened:
        yield opened


@pytest.fixture(scope="session")
def login(tcp_upstream: Gunicorn) -> Callable[[str], dict[str, str]]:
    """Gives the token pair that simplejwt issues for a name."""

    def pair(name: str) -> dict[str, str]:
        with tcp_upstream.client("localhost") as opened:
            answer = opened.post("/api/token/", json={"username": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        tokens: dict[str, str] = answer.json()
        return tokens

    return pair


@pytest.fixture(scope="session")
def alice(login: Callable[[str], dict[str, str]]) -> dict[str, str]:
    """The header by which Alice, an ordinary user, is known."""
    return {"Authorization": f"Bearer {login('alice')['access']}"}


@pytest.fixture(scope="session")
def bob(login: Callable[[str], dict[str, str]]) -> dict[str, str]:
    """The header by which Bob, who is staff, is known."""
    return {"Authorization": f"Bearer {login('bob')['access']}"}


@pytest.fixture(scope="session")
def deployment(site: Site, login: Callable[[str], dict[str, str]]) -> Deployment:
    """What bad tokens are made from."""
    pair = login("alice")
    return Deployment(site.secret, pair["access"], pair["refresh"])


@pytest.fixture
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """A provider for this story alone, over plain HTTP."""
    yield from _provided(Provider(tmp_path_factory.mktemp("provider")))


@pytest.fixture
def secure_provider(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """A provider with a certificate of the tests' authority."""
    yield from _provided(Provider(tmp_path_factory.mktemp("provider"), authority))


@pytest.fixture
def make_gateway(authority: Authority, tmp_path: Path) -> Iterator[Callable[..., WhoamiGateway]]:
    """Makes the gateway of this story, not yet started; ends it with the story."""
    made: list[WhoamiGateway] = []

    def make(**issuers: str) -> WhoamiGateway:
        gateway = WhoamiGateway(directory=tmp_path, authority=authority, issuers=issuers)
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        gateway.stop()


def _gateway_before(upstream: AppServer, authority: Authority, directory: Path) -> Gateway:
    return Gateway(
        directory=directory,
        authority=authority,
        kind=upstream.kind,
        endpoint=upstream.endpoint,
        static_root=upstream.site.static_root,
        secret=upstream.site.secret,
    )


def _served(upstream: S) -> Iterator[S]:
    try:
        upstream.start()
        yield upstream
    finally:
        upstream.stop()


def _guarded(gateway: Gateway) -> Iterator[Gateway]:
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.stop()


def _provided(provider: Provider) -> Iterator[Provider]:
    try:
        provider.start()
        yield provider
    finally:
        provider.stop()
