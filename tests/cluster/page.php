<?php
// The page of the lab: it answers only where Apache, PHP and the database all run.
$db = new mysqli(null, "shop", "shop", "shop", 0, "/run/mysqld/mysqld.sock");
echo $db->query("SELECT words FROM page")->fetch_row()[0], "\n";
