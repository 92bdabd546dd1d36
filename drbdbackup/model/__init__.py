"""The words of the field as frozen values. Nothing here reads, writes, starts or imports anything of the project."""
