"""A business's page has to be one that ElevenLabs can read: only what its address itself says is looked at."""

from __future__ import annotations

import pytest

from control.provisioning.page import check_page


@pytest.mark.parametrize(
    "url",
    [
        "https://coastal.example.com",
        "http://coastal.example.com:8080/menu?lang=fr#today",
        "https://münchen.de/",
        "https://xn--mnchen-3ya.de./",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/",
        "https://localhost.example.com/",
        "https://internal-affairs.org/",
        "https://10.example.com/",
    ],
)
def test_page_of_the_internet_is_accepted(url: str) -> None:
    """Whatever it is called, also in its own script, and by plain http."""
    check_page(url, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.1.1/admin",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/",
        "http://[::1]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://0.0.0.0/",
        "http://224.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.01/",
        "http://localhost/",
        "http://LOCALHOST:8080/",
        "http://localhost./",
        "http://www.localhost/",
        "http://printer.local/",
        "http://metadata.google.internal/",
        "http://nas.home.arpa/",
        "http://intranet/",
        "http://wiki.corp/",
        "http://user@coastal.example.com/",
        "http://user:secret@coastal.example.com/",
        "ftp://coastal.example.com/",
        "https:///nothing",
        "https://exa mple.com/",
    ],
)
def test_page_that_is_not_public_is_refused(url: str) -> None:
    """Loopback, private, link-local and shared addresses in any spelling, names of one's own network, a password."""
    with pytest.raises(ValueError, match=r"\w"):
        check_page(url, allow_private=False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://wiki.corp/", "http://10.1.2.3/"])
def test_page_of_ones_own_network_may_be_allowed(url: str) -> None:
    """Where there is no internet."""
    check_page(url, allow_private=True)


@pytest.mark.parametrize("url", ["http://a:b@wiki.corp/", "http://0.0.0.0/", "http://"])
def test_page_that_is_none_is_refused_everywhere(url: str) -> None:
    """A password is never told, and these are no hosts."""
    with pytest.raises(ValueError, match=r"\w"):
        check_page(url, allow_private=True)
