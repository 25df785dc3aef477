"""All AMQP: topology, sending, the publisher thread. The same code speaks to RabbitMQ and to Valkey/Redis, through kombu."""
