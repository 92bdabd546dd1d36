"""Apache, PHP and MariaDB live on the volume, where the rendered scripts moved them."""

from __future__ import annotations

from tests.cluster.lab import Lab
from tests.cluster.pair import has_the_volume

MOVED = ("/var/www", "/var/lib/mysql", "/etc/apache2", "/etc/php")


def test_the_services_folders_are_links_into_the_volume_on_both_nodes(looked_at: Lab) -> None:
    lab = looked_at
    assert has_the_volume(lab.www4)
    for folder in MOVED:
        places = {node.says(f"readlink {folder}") for node in lab.pair}
        assert len(places) == 1, f"{folder} leads to {places}"
        assert places.pop().startswith("/srv/raid/")
        assert lab.www4.holds(f"test -d {folder}/")
        assert not lab.www5.holds(f"test -e {folder}")


def test_the_scripts_that_moved_them_can_be_run_again(looked_at: Lab) -> None:
    assert "nothing to do" in looked_at.www4.says("pair-move-services")
    assert "nothing to do" in looked_at.www5.says("pair-link-services")
    assert "for the Primary" in looked_at.www5.run("pair-move-services", check=False).stderr
